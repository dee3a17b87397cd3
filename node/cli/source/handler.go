package source

import (
	"path"
	"strings"

	"github.com/covey-dev/covey/internal/archive"
	"github.com/covey-dev/covey/node/cli/manifest"
)

// handler completes the entry point and checks that the files have it: a name
// that leads nowhere is found here and not by the first caller.
func (t *target) handler(runtime, given string) (string, error) {
	switch runtime {
	case manifest.Python:
		return t.pythonHandler(given)
	case manifest.NodeJS:
		return t.nodeHandler(given)
	case manifest.Lambda:
		return t.lambdaHandler(given)
	case manifest.Exec:
		return given, t.checkProgram(given)
	default:
		return given, nil
	}
}

// pythonHandler is module.function.
func (t *target) pythonHandler(given string) (string, error) {
	if given == "" && t.kind == single {
		given = strings.TrimSuffix(t.names[0].Name, ".py") + ".handler"
	}
	for _, usual := range []string{"main.handler", "handler.handler", "app.handler", "lambda_function.lambda_handler"} {
		if module, _, _ := strings.Cut(usual, "."); given == "" && t.has(module+".py") {
			given = usual
		}
	}
	if given == "" {
		return "", inputf("%s: which function is called? Name it with --handler module.function, or as handler in %s", t.path, manifest.FileName)
	}
	module, ok := pythonModule(given)
	if !ok {
		return "", inputf("handler %q is not of the form module.function", given)
	}
	if t.has(module+".py", module+"/__init__.py") || len(t.matching(func(f archive.File) bool {
		return strings.HasPrefix(f.Name, module+".") && path.Ext(f.Name) == ".so"
	})) > 0 {
		return given, nil
	}
	return "", inputf("handler %q: there is no %s.py in %s", given, module, t.path)
}

// pythonModule is the path of a handler's module, without its ending.
func pythonModule(handler string) (string, bool) {
	at := strings.LastIndexByte(handler, '.')
	if at <= 0 || at == len(handler)-1 {
		return "", false
	}
	return strings.ReplaceAll(handler[:at], ".", "/"), true
}

// nodeEndings are those of modules, in the order that they are tried.
var nodeEndings = []string{".js", ".mjs", ".cjs"}

// nodeFile is the path of a handler's file, without its ending: what follows the
// first dot of the name is exported by it.
func nodeFile(handler string) (string, bool) {
	dir, name := path.Split(handler)
	file, export, ok := strings.Cut(name, ".")
	return dir + file, ok && file != "" && export != ""
}

// nodeHandler is file.export.
func (t *target) nodeHandler(given string) (string, error) {
	if given == "" && t.kind == single {
		given = strings.TrimSuffix(t.names[0].Name, path.Ext(t.names[0].Name)) + ".handler"
	}
	if given == "" && t.hasModule("index") {
		given = "index.handler"
	}
	if given == "" {
		return "", inputf("%s: which function is called? Name it with --handler file.export, or as handler in %s", t.path, manifest.FileName)
	}
	file, ok := nodeFile(given)
	if !ok {
		return "", inputf("handler %q is not of the form file.export", given)
	}
	if !t.hasModule(file) {
		return "", inputf("handler %q: there is no %s.js, .mjs or .cjs in %s", given, file, t.path)
	}
	return given, nil
}

func (t *target) hasModule(file string) bool {
	for _, ending := range nodeEndings {
		if t.has(path.Clean(file) + ending) {
			return true
		}
	}
	return false
}

// lambdaHandler follows AWS: a bootstrap needs none, and for the others there are
// names that AWS's console fills in.
func (t *target) lambdaHandler(given string) (string, error) {
	if t.has(bootstrap) || given != "" {
		return given, nil
	}
	if t.has("lambda_function.py") {
		return "lambda_function.lambda_handler", nil
	}
	if t.hasModule("index") {
		return "index.handler", nil
	}
	return "", inputf("%s has no bootstrap, lambda_function.py or index.js at its top: name its handler with --handler, as on AWS Lambda", t.path)
}

// checkProgram wants a program where none is named. A named one may be the
// machine's own.
func (t *target) checkProgram(given string) error {
	if given != "" {
		return nil
	}
	switch programs := t.matching(func(f archive.File) bool { return f.Exec }); len(programs) {
	case 0:
		return inputf("%s has no executable file: chmod +x the one to run, or name a program with --handler", t.path)
	case 1:
		return nil
	default:
		return inputf("%s has several executable files (%s): name the one to run with --handler",
			t.path, strings.Join(programs[:min(len(programs), 5)], ", "))
	}
}
