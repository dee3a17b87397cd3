// Package python holds the SDK that functions in Python import, so that Go programs can ship it. The SDK itself is
// the folder covey beside this file, and an ordinary Python package.
package python

import (
	"embed"
	"io/fs"
)

//go:embed covey/*.py
var files embed.FS

// Files returns the SDK: the package folder "covey" at its top.
func Files() fs.FS { return files }
