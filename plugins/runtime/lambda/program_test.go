package lambda

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/covey-dev/covey/plugins/frame"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// files makes a package of empty files.
func files(t *testing.T, names ...string) string {
	t.Helper()
	code := t.TempDir()
	for _, name := range names {
		path := filepath.Join(code, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return code
}

func TestFamilyIsDeclaredOrGuessed(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, declared, handler string
		files                   []string
		want                    family
		wrong                   string
	}{
		{name: "bootstrap", handler: "anything", files: []string{"bootstrap"}, want: provided},
		{name: "bootstrap in a layer", files: []string{"layers/one/bootstrap"}, want: provided},
		{name: "declared provided", declared: "provided.al2023", want: provided},
		{name: "declared python wins", declared: "python3.12", files: []string{"bootstrap"}, want: python},
		{name: "declared node", declared: "nodejs20.x", want: nodejs},
		{name: "declared java", declared: "java21", want: java},
		{name: "declared ruby", declared: "ruby3.3", files: []string{"app.rb"}, wrong: "ruby3.3"},
		{name: "declared ruby with its bootstrap", declared: "ruby3.3", files: []string{"bootstrap"}, want: provided},
		{name: "python module", handler: "app.handler", files: []string{"app.py"}, want: python},
		{name: "python by slashes", handler: "src/app.handler", files: []string{"src/app.py"}, want: python},
		{name: "python by dots", handler: "src.app.handler", files: []string{"src/app.py"}, want: python},
		{name: "python package", handler: "app.handler", files: []string{"app/__init__.py"}, want: python},
		{name: "node", handler: "app.handler", files: []string{"app.js"}, want: nodejs},
		{name: "node nested", handler: "src/app.api.handler", files: []string{"src/app.mjs"}, want: nodejs},
		{name: "java method", handler: "example.Handler::handleRequest", want: java},
		{name: "java class", handler: "example.Handler", files: []string{"example/Handler.class"}, want: java},
		{name: "default python", files: []string{"lambda_function.py"}, want: python},
		{name: "default node", files: []string{"index.mjs"}, want: nodejs},
		{name: "nothing", wrong: "no bootstrap"},
		{name: "handler of nothing", handler: "app.handler", files: []string{"other.py"}, wrong: `"app.handler"`},
	}
	for _, c := range cases {
		got, err := familyOf(&covey.Setup{Code: files(t, c.files...), Handler: c.handler}, c.declared)
		if c.wrong == "" && (err != nil || got != c.want) {
			t.Errorf("%s: got %q, %v, want %q", c.name, got, err, c.want)
		}
		if e, ok := errors.AsType[*covey.Error](err); c.wrong != "" && (!ok || e.Type != "Runtime.InvalidEntrypoint" || !strings.Contains(e.Message, c.wrong)) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

func TestRuntimeIsToldInEitherVariable(t *testing.T) {
	t.Parallel()
	for _, e := range []frame.Attribute{{Name: envRuntime, Value: "provided.al2"}, {Name: envExecution, Value: "AWS_Lambda_provided.al2"}} {
		_, err := choose(&covey.Setup{Code: t.TempDir(), Env: frame.Attributes{e}}, t.TempDir())
		if err == nil || !strings.Contains(err.Error(), "no program named bootstrap") {
			t.Errorf("%s: got %v", e.Name, err)
		}
	}
}

func TestJavaWithoutItsClientSaysWhatToAdd(t *testing.T) {
	t.Parallel()
	if _, err := interpreter("java"); err != nil {
		t.Skip(err)
	}
	setup := &covey.Setup{Code: files(t, "example/Handler.class"), Handler: "example.Handler::handleRequest", Memory: 512 << 20}
	_, err := choose(setup, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "aws-lambda-java-runtime-interface-client") {
		t.Errorf("got %v", err)
	}
	setup.Code = files(t, "example/Handler.class", "lib/aws-lambda-java-runtime-interface-client-2.6.0.jar")
	p, err := choose(setup, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Join(p.args, " ")
	if !strings.Contains(line, "-Xmx393216k") || !strings.Contains(line, setup.Code+"/lib/*") || !strings.HasSuffix(line, javaClient+" example.Handler::handleRequest") {
		t.Errorf("got %s", line)
	}
}

func TestLayersAreSearched(t *testing.T) {
	t.Parallel()
	code := files(t, "layers/1-base/python/a.py", "layers/2-more/lib/b.so", "opt/bin/c", "layers/file")
	v := variables{}
	v.searchPaths(code)
	in := func(names ...string) string {
		for i := range names {
			names[i] = code + "/" + names[i]
		}
		return strings.Join(names, ":")
	}
	want := map[string]string{
		"PATH":            "/usr/local/bin:/usr/bin:/bin:" + in("layers/2-more/bin", "layers/1-base/bin", "opt/bin"),
		"LD_LIBRARY_PATH": code + ":" + in("lib", "layers/2-more/lib", "layers/1-base/lib", "opt/lib"),
		"PYTHONPATH":      in("layers/2-more/python", "layers/1-base/python", "opt/python"),
		"NODE_PATH":       in("layers/2-more/nodejs/node_modules", "layers/1-base/nodejs/node_modules", "opt/nodejs/node_modules"),
	}
	for name, value := range want {
		if v[name] != value {
			t.Errorf("%s is %s, want %s", name, v[name], value)
		}
	}
}

func TestXrayTrace(t *testing.T) {
	t.Parallel()
	for traceparent, want := range map[string]string{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":      "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02":      "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=0",
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more": "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1",
		"": "", "00-4bf9": "",
		"00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":       "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-zz":       "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba9\r\nb7-01":     "",
		"00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01":       "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736" + strings.Repeat("-", 20): "",
	} {
		if got := xrayTrace(traceparent); got != want {
			t.Errorf("%q: got %q, want %q", traceparent, got, want)
		}
	}
}

func TestLinesAreCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want []string
		rest string
	}{
		{"", nil, ""},
		{"a", nil, "a"},
		{"a\nb\r\n\nc", []string{"a", "b", ""}, "c"},
		{"0123456789abc", []string{"0123456789abc"}, ""},
		{"a\n0123456789", []string{"a", "0123456789"}, ""},
	} {
		whole, rest := lines([]byte(c.text), 10)
		var got []string
		for _, l := range whole {
			got = append(got, string(l))
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") || string(rest) != c.rest {
			t.Errorf("%q: got %q and %q", c.text, got, rest)
		}
	}
}
