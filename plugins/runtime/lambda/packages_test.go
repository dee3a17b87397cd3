package lambda_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// prepare runs the preparing process of a package and returns its cache.
func prepare(t *testing.T, setup *covey.Setup) string {
	t.Helper()
	s := *setup
	s.Preparing, s.Cache = true, t.TempDir()
	b := startWith(t, &s)
	_ = b.cmd.Wait()
	if got := b.cmd.ProcessState.ExitCode(); got != 0 {
		t.Fatalf("preparing ended with status %d", got)
	}
	return s.Cache
}

func TestBootstrapWithoutItsModeRuns(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Log("running as root: the mode matters all the same, because it has no executable bit at all")
	}
	code := write(t, map[string]string{"bootstrap": "#!/bin/sh\necho no nest; exit 3\n"})
	if err := os.Chmod(filepath.Join(code, "bootstrap"), 0o644); err != nil {
		t.Fatal(err)
	}
	setup := setupOf(code, "")
	cache := prepare(t, setup)
	if info, err := os.Stat(filepath.Join(cache, "bootstrap")); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("no executable copy was prepared: %v, %v", info, err)
	}
	for _, c := range []string{"", cache} {
		setup.Cache = c
		_, err := startWith(t, setup).try(newCall("a", nil))
		if failed, ok := errors.AsType[*plugins.InitError](err); !ok || !strings.Contains(failed.Message, "no nest") {
			t.Errorf("cache %q: got %v", c, err)
		}
	}
}

func TestPreparedPythonModulesAreUsed(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	code := write(t, map[string]string{
		"app.py":          "import pkg.part\ndef handler(event, context):\n    return pkg.part.VALUE\n",
		"pkg/__init__.py": "", "pkg/part.py": "VALUE = 1\n", "broken.py": "def (:\n", "empty.txt": "",
	})
	setup := setupOf(code, "app.handler")
	setup.Cache = prepare(t, setup)
	// Sources do not change under a version; that this one did and nobody noticed shows what was read.
	if err := os.WriteFile(filepath.Join(code, "pkg/part.py"), []byte("VALUE = 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := startWith(t, setup).invoke(t, "a", nil); string(got) != "1" {
		t.Errorf("got %s", got)
	}
	// What another version of Python compiled is not used.
	if err := os.WriteFile(filepath.Join(setup.Cache, "python", code, "pkg/part.pyc"), []byte("else"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := startWith(t, setup).invoke(t, "a", nil); string(got) != "2" {
		t.Errorf("got %s", got)
	}
}

func TestModulesOfLayersAreFound(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	need(t, "node")
	code := write(t, map[string]string{
		"app.py":                    "import shared\ndef handler(event, context):\n    return shared.NAME\n",
		"app.js":                    "const shared = require('shared'); exports.handler = async () => shared.name;",
		"layers/a/python/shared.py": "NAME = 'a'\n",
		"layers/b/python/shared.py": "NAME = 'b'\n",
		"layers/a/nodejs/node_modules/shared/index.js": "exports.name = 'a'",
		"opt/nodejs/node_modules/shared/index.js":      "exports.name = 'opt'",
	})
	for runtime, want := range map[string]string{"python3": `"b"`, "nodejs": `"a"`} {
		setup := setupOf(code, "app.handler", "COVEY_LAMBDA_RUNTIME="+runtime)
		if got := startWith(t, setup).invoke(t, "a", nil); string(got) != want {
			t.Errorf("%s: got %s, want %s", runtime, got, want)
		}
	}
}

// TestAWSClientForPython runs a package that contains AWS's own client, if one can be had: installed for the
// machine's Python, or with pip's --target in the folder that the variable names.
func TestAWSClientForPython(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	from := os.Getenv("COVEY_TEST_AWSLAMBDARIC")
	cmd := exec.CommandContext(t.Context(), "/usr/bin/env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "PYTHONPATH="+from, "python3", "-c", "import awslambdaric, runtime_client")
	if err := cmd.Run(); err != nil {
		t.Skip("awslambdaric is not there; pip install --target FOLDER awslambdaric, and set COVEY_TEST_AWSLAMBDARIC to FOLDER")
	}
	setup := pythonSetup(t, `
import logging, sys
def handler(event, context):
    logging.getLogger().info("egg\nwith a second line")
    if "fail" in event:
        raise KeyError(event["fail"])
    return {"event": event, "client": "awslambdaric" in sys.modules, "id": context.aws_request_id, "left": context.get_remaining_time_in_millis() > 0}
`)
	if from != "" {
		if err := os.CopyFS(setup.Code, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	b := startWith(t, setup)
	if got, want := string(b.invoke(t, "a", []byte(`{"n": 1}`))), `{"event": {"n": 1}, "client": true, "id": "a", "left": true}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	b.reported(t, "a")
	if got := b.lines("a"); len(got) != 4 || got[1].Message != "egg\nwith a second line" || got[1].Level != "info" {
		t.Errorf("lines %+v", got)
	}
	_, err := b.try(newCall("b", []byte(`{"fail": "x"}`)))
	if e, ok := errors.AsType[*plugins.FunctionError](err); !ok || e.Type != "KeyError" || !strings.Contains(e.Stack, "app.py") {
		t.Errorf("got %v", err)
	}
}

// TestAWSClientForJava runs a package for Java, if AWS's client and the library that handlers are written with are in the
// folder that the variable names.
func TestAWSClientForJava(t *testing.T) {
	t.Parallel()
	from := os.Getenv("COVEY_TEST_LAMBDA_JAVA")
	if _, err := exec.LookPath("javac"); from == "" || err != nil {
		t.Skip("no javac, or COVEY_TEST_LAMBDA_JAVA does not name a folder with the jars of aws-lambda-java-runtime-interface-client")
	}
	code := write(t, map[string]string{"example/Handler.java": `package example;
import com.amazonaws.services.lambda.runtime.*;
import java.util.Map;
public class Handler implements RequestHandler<Map<String, Object>, String> {
  public String handleRequest(Map<String, Object> event, Context context) {
    if (event.containsKey("fail")) throw new IllegalStateException("no nest");
    return event.get("n") + " " + context.getAwsRequestId();
  }
}`})
	if err := os.CopyFS(filepath.Join(code, "lib"), os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "javac", "-cp", code+"/lib/*", "example/Handler.java")
	cmd.Dir = code
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, out)
	}
	b := startWith(t, setupOf(code, "example.Handler::handleRequest"))
	for _, id := range []string{"a", "b"} {
		if got, want := string(b.invoke(t, id, []byte(`{"n": 1}`))), `"1 `+id+`"`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	_, err := b.try(newCall("c", []byte(`{"fail": 1}`)))
	if e, ok := errors.AsType[*plugins.FunctionError](err); !ok || e.Type != "java.lang.IllegalStateException" || e.Message != "no nest" {
		t.Errorf("got %v", err)
	}
}

func TestAWSClientOfAPackageIsPreferred(t *testing.T) {
	t.Parallel()
	need(t, "node")
	// A stand-in with the official package's layout: the real one is compiled when it is installed.
	setup := nodeSetup(t, "app.js", "exports.handler = async () => 'ours';")
	bin := filepath.Join(setup.Code, "node_modules/aws-lambda-ric/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(source string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bin, "index.mjs"), []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put(`
const api = 'http://' + process.env.AWS_LAMBDA_RUNTIME_API + '/2018-06-01/runtime/invocation/';
(async () => {
  for (;;) {
    const next = await fetch(api + 'next');
    await next.text();
    const body = JSON.stringify(['official', process.argv[2], process.cwd()]);
    await (await fetch(api + next.headers.get('lambda-runtime-aws-request-id') + '/response', { method: 'POST', body })).text();
  }
})();`)
	if got, want := string(startWith(t, setup).invoke(t, "a", nil)), `["official","app.handler","`+setup.Code+`"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	put("import './missing.node';")
	b := startWith(t, setup)
	if got := string(b.invoke(t, "a", nil)); got != `"ours"` || !strings.Contains(b.output.String(), "does not load here") {
		t.Errorf("with a client that does not load: %s", got)
	}
}

func TestPythonTakesSeveralCallsAtOnce(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	setup := pythonSetup(t, "import threading\nmet = threading.Barrier(8)\ndef handler(event, context):\n    met.wait()\n    return context.aws_request_id\n")
	setup.Concurrency = 8
	setup.Env = append(setup.Env, frame.Attribute{Name: "AWS_EXECUTION_ENV", Value: "AWS_Lambda_python3.11"})
	b := startWith(t, setup)
	results := make(chan string, 8)
	for _, id := range strings.Split("abcdefgh", "") {
		go func() {
			got, err := b.try(newCall(id, nil))
			if err != nil || string(got) != `"`+id+`"` {
				results <- id + " got " + string(got)
			}
			results <- ""
		}()
	}
	for range 8 {
		if wrong := <-results; wrong != "" {
			t.Error(wrong)
		}
	}
}
