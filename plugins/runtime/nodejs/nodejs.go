// Package nodejs is the runtime for functions written in JavaScript: a program for Node.js 18 or newer, as files, and how
// to start it. A process of it is a blank, which becomes a function when SETUP arrives on the data plane. The program
// needs no npm packages and is in the folder js; the SDK that functions see is plugins/sdk/node.
//
// What it does not do: it takes no lanes, because Node cannot receive descriptors, and it cannot set the limit of
// V8's heap once it is known, so an instance that takes more than its memory ends by its cgroup.
package nodejs

import (
	"archive/zip"
	"bytes"
	"embed"
	"errors"
	"io/fs"
	"path"

	"github.com/covey-dev/covey/plugins/sdk/node"
)

//go:embed js
var program embed.FS

// Link is where a sandbox should show Files a second time. The SDK's npm package is a folder among them, and this is
// above the function's code, so ES modules find it without a hook. In Node before 22.15 that spares them a thread.
const Link = "/var/node_modules"

// Files returns the files that a process of the runtime needs, with main.js at the top and the SDK in its folder.
func Files() fs.FS {
	// An archive in memory is the plainest way to make one file system out of two.
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	js, err := fs.Sub(program, "js")
	if err == nil {
		err = errors.Join(w.AddFS(js), w.AddFS(node.Files()), w.Close())
	}
	var r *zip.Reader
	if err == nil {
		r, err = zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	}
	if err != nil {
		panic("embedded files: " + err.Error()) // They were read when the binary was built.
	}
	return r
}

// Interpreters returns where Node.js may be, to be tried in order.
func Interpreters() []string {
	return []string{"/usr/local/bin/node", "/usr/bin/node", "/usr/bin/nodejs"}
}

// Command returns the arguments that start a blank: interpreter runs the program whose files lie in dir.
func Command(interpreter, dir string) []string {
	return []string{
		interpreter,
		// The young generation is three times this. Newer versions of V8 take more, which suits no small instance.
		"--max-semi-space-size=16",
		// Collect when the heap has grown by half, not to the multiple that suits a machine of one's own: an instance's
		// limit is not known yet, and cannot be set later. Larger instances change this.
		"--heap-growing-percent=50",
		// What a blank has compiled in advance must be there still when it has waited long.
		"--no-flush-bytecode",
		path.Join(dir, "main.js"),
	}
}

// Probe returns the arguments that print the interpreter's version and end with status 0 if this package can use it.
func Probe(interpreter string) []string {
	return []string{interpreter, "-e", `console.log(process.version); process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)`}
}
