package lambda

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
	"golang.org/x/sys/unix"
)

const (
	// envRuntime says what a package is for, as a deployment's Runtime does on AWS: "python3.12", "nodejs20.x",
	// "provided.al2023", "java21". It goes before envExecution, with which functions say the same.
	envRuntime      = "COVEY_LAMBDA_RUNTIME"
	envExecution    = "AWS_EXECUTION_ENV"
	executionPrefix = "AWS_Lambda_"
	bootstrapName   = "bootstrap"
	javaClient      = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda"
	javaClientJar   = "aws-lambda-java-runtime-interface-client*.jar"
	// javaHeapPercent leaves room for what the machine of Java takes beside its heap.
	javaHeapPercent = 75
)

// pythonStart runs our client from the folder in the first argument.
const pythonStart = "import sys; sys.path[0] = sys.argv.pop(1); import covey_lambda; covey_lambda.main()"

// family is a group of Lambda runtimes that are started alike.
type family string

const (
	provided family = "provided"
	python   family = "python"
	nodejs   family = "nodejs"
	java     family = "java"
)

// defaultHandlers are what Lambda's consoles fill in for a new function.
var defaultHandlers = map[family]string{
	provided: bootstrapName, python: "lambda_function.lambda_handler", nodejs: "index.handler",
}

// program is what to start for a package.
type program struct {
	family  family
	path    string
	args    []string // beginning with the program's name
	handler string
	// execution is the runtime's identifier, or empty for one of the machine's own kind.
	execution string
	env       map[string]string
	clients   string // the folder of our clients
}

// choose decides what to start: what the deployment declares, or what the package's files say.
func choose(s *covey.Setup, clients string) (*program, error) {
	if s.Cache != "" && isFolder(filepath.Join(s.Cache, clientFolder)) {
		clients = filepath.Join(s.Cache, clientFolder)
	}
	p := &program{handler: s.Handler, clients: clients, env: map[string]string{}}
	p.execution = s.Env.Get(envRuntime)
	if p.execution == "" {
		p.execution = strings.TrimPrefix(s.Env.Get(envExecution), executionPrefix)
	}
	var err error
	if p.family, err = familyOf(s, p.execution); err != nil {
		return nil, err
	}
	if p.handler == "" {
		p.handler = defaultHandlers[p.family]
	}
	if p.handler == "" {
		return nil, wrongPackage("a package for Java needs a handler such as example.Handler::handleRequest")
	}
	switch p.family {
	case python:
		err = p.python(s)
	case nodejs:
		err = p.node()
	case java:
		err = p.java(s)
	default:
		err = p.bootstrap(s)
	}
	return p, err
}

// wrongPackage is the error of a package that cannot be started.
func wrongPackage(format string, args ...any) error {
	return &covey.Error{Type: "Runtime.InvalidEntrypoint", Message: fmt.Sprintf(format, args...)}
}

// familyOf finds out what kind of package it is.
func familyOf(s *covey.Setup, declared string) (family, error) {
	for _, f := range []family{provided, python, nodejs, java} {
		if strings.HasPrefix(declared, string(f)) {
			return f, nil
		}
	}
	if findBootstrap(s.Code) != "" {
		return provided, nil
	}
	if declared != "" {
		return "", wrongPackage("packages for the Lambda runtime %q need a program named bootstrap at their top: "+
			"without one, Python, Node.js and Java are what can be run", declared)
	}
	switch {
	case strings.Contains(s.Handler, "::"):
		return java, nil
	case s.Handler == "":
		for _, f := range []family{python, nodejs} {
			if f.has(s.Code, defaultHandlers[f]) {
				return f, nil
			}
		}
		return "", wrongPackage("the package has no bootstrap, no lambda_function.py and no index.js or index.mjs at its top, " +
			"and the deployment names no handler")
	}
	for _, f := range []family{python, nodejs, java} {
		if f.has(s.Code, s.Handler) {
			return f, nil
		}
	}
	return "", wrongPackage("the package has no bootstrap, and no Python module, Node.js file or Java class for the handler %q", s.Handler)
}

// has tells whether the package holds what a handler of this family names.
func (f family) has(code, handler string) bool {
	anyOf := func(path string, endings ...string) bool {
		return slices.ContainsFunc(endings, func(e string) bool { return isFile(filepath.Join(code, path+e)) })
	}
	module, _, found := cutLast(handler, '.')
	switch f {
	case python:
		return found && anyOf(strings.ReplaceAll(module, ".", "/"), ".py", "/__init__.py")
	case nodejs:
		// Everything behind the first dot of the file's name is a path within the module.
		folder, file := filepath.Split(handler)
		name, _, dot := strings.Cut(file, ".")
		return dot && anyOf(folder+name, ".js", ".mjs", ".cjs")
	case java:
		return anyOf(strings.ReplaceAll(handler, ".", "/"), ".class")
	}
	return false
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// findBootstrap looks for the program where Lambda does: in the package, then in its layers.
func findBootstrap(code string) string {
	for _, folder := range append([]string{code}, layers(code)...) {
		if path := filepath.Join(folder, bootstrapName); isFile(path) {
			return path
		}
	}
	return ""
}

// bootstrap starts the package's own program.
func (p *program) bootstrap(s *covey.Setup) error {
	p.execution = "" // Lambda tells such programs nothing.
	source := findBootstrap(s.Code)
	if source == "" {
		return wrongPackage("the package has no program named bootstrap at its top")
	}
	p.path, p.args = source, []string{source}
	if unix.Access(source, unix.X_OK) == nil || s.Preparing {
		return nil
	}
	// Archives made on some systems carry no modes, and the folder is read-only.
	if s.Cache != "" {
		if cached := filepath.Join(s.Cache, bootstrapName); unix.Access(cached, unix.X_OK) == nil {
			p.path = cached
			return nil
		}
	}
	p.path = filepath.Join(p.clients, bootstrapName)
	return copyProgram(source, p.path)
}

// interpreter finds the first of some programs on the machine.
func interpreter(names ...string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", wrongPackage("this node has no %s, which the package needs", names[len(names)-1])
}

func (p *program) python(s *covey.Setup) error {
	path, err := interpreter(p.execution, "python3")
	if err != nil {
		return err
	}
	if p.execution == "" || p.execution == string(python) {
		p.execution = pythonVersion(path)
	}
	// Imported and not run as a script, because only imports use what was compiled before.
	p.path, p.args = path, []string{path, "-c", pythonStart, p.clients}
	if s.Cache != "" {
		p.env[envPythonCache] = filepath.Join(s.Cache, pythonCacheFolder)
	}
	// The package's folder is read-only.
	p.env["PYTHONDONTWRITEBYTECODE"] = "1"
	return nil
}

// pythonVersion reads the version off the name of the file that path leads to, such as python3.11.
func pythonVersion(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil && strings.HasPrefix(filepath.Base(real), "python3.") {
		return filepath.Base(real)
	}
	return "python3"
}

func (p *program) node() error {
	path, err := interpreter("node", "nodejs")
	if err != nil {
		return err
	}
	if p.execution == "" {
		p.execution = string(nodejs)
	}
	p.path, p.args = path, []string{path, filepath.Join(p.clients, nodeClient)}
	return nil
}

// java starts AWS's client, which only the package or the machine can bring along.
func (p *program) java(s *covey.Setup) error {
	path, err := interpreter("java")
	if err != nil {
		return err
	}
	if p.execution == "" {
		p.execution = string(java)
	}
	roots := layers(s.Code)
	classpath := []string{s.Code, filepath.Join(s.Code, "lib", "*")}
	jars := []string{filepath.Join(s.Code, "lib"), s.Code}
	for _, root := range roots {
		classpath = append(classpath, filepath.Join(root, "java", "lib", "*"))
		jars = append(jars, filepath.Join(root, "java", "lib"))
	}
	client := isFile(filepath.Join(s.Code, strings.ReplaceAll(javaClient, ".", "/")+".class"))
	for _, folder := range append(jars, "/usr/share/java") {
		found, err := filepath.Glob(filepath.Join(folder, javaClientJar))
		if err == nil && len(found) > 0 && !client {
			client = true
			classpath = append(classpath, found[0])
		}
	}
	if !client {
		return wrongPackage("the package for Java lacks AWS's runtime interface client: put the jar of " +
			"com.amazonaws:aws-lambda-java-runtime-interface-client and those it needs into the package's lib folder")
	}
	p.path = path
	p.args = []string{path, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"}
	if s.Memory > 0 {
		p.args = append(p.args, fmt.Sprintf("-Xmx%dk", s.Memory>>10*javaHeapPercent/100))
	}
	p.args = append(p.args, "-cp", strings.Join(classpath, ":"), javaClient, p.handler)
	return nil
}
