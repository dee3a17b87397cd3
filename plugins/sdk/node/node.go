// Package node holds the SDK for functions written for Node.js, as files. The runtime shows them to the function as
// the package "covey", so that a function finds it without installing anything; to test a function outside a node,
// install the folder:
//
//	npm install --save-dev PATH/plugins/sdk/node/covey
package node

import (
	"embed"
	"io/fs"
)

//go:embed covey
var files embed.FS

// Files returns the SDK: one folder, "covey", which is an npm package.
func Files() fs.FS { return files }
