// Package python is the runtime for functions in Python: a program in Python that a node starts ahead and that
// becomes a function when it is told which. This package carries the program and says how to start it; the program
// is in the folder files, and the SDK that it shows to functions in plugins/sdk/python. docs/functions/python.md
// describes what a function in Python is.
package python

import (
	"embed"
	"io/fs"

	"github.com/covey-dev/covey/plugins/sdk/python"
)

//go:embed files/main.py files/lib/covey_runtime/*.py
var files embed.FS

// Files returns the runtime's files, with main.py at the top.
func Files() fs.FS {
	own, err := fs.Sub(files, "files")
	if err != nil {
		panic(err) // The folder is part of this package.
	}
	return overlay{own: own, at: "lib", sdk: python.Files()}
}

// Interpreters returns the paths where a Python may lie, in the order in which they are to be tried.
func Interpreters() []string {
	return []string{"/usr/local/bin/python3", "/usr/bin/python3", "/bin/python3"}
}

// Command returns the arguments that start a blank process of the runtime whose files are in dir.
func Command(interpreter, dir string) []string {
	return append(flags(interpreter), dir+"/main.py")
}

// flags keep the machine's Python out of a function, so that it behaves the same on every node, and the start
// short: no environment variables, no site-packages, no bytecode that is written. Text is UTF-8 without a locale.
func flags(interpreter string) []string {
	return []string{interpreter, "-I", "-S", "-B", "-X", "utf8"}
}

// Compile returns the arguments that write the bytecode of the runtime's files in dir beside them. A node runs it once
// after it has unpacked them; without it each blank compiles the files again, which takes it longer than all
// the rest of its start.
func Compile(interpreter, dir string) []string {
	const script = "import compileall, py_compile, sys; " +
		"sys.exit(not compileall.compile_dir(sys.argv[1], quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH))"
	return []string{interpreter, "-I", "-S", "-X", "utf8", "-c", script, dir + "/lib"}
}

// Probe returns the arguments that print the version of an interpreter and succeed if it is new enough.
func Probe(interpreter string) []string {
	const script = "import sys; print('%d.%d.%d' % sys.version_info[:3]); sys.exit(sys.version_info < (3, 9))"
	return []string{interpreter, "-I", "-S", "-c", script}
}
