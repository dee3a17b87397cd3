// Package pdftext_test tests the function pdf-text, a Debian tool behind a few lines of shell, on the runtime that
// hosts it.
package pdftext_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest"
	"github.com/covey-dev/covey/plugins/runtime/command"
)

// envBeRuntime makes the test binary the runtime.
const envBeRuntime = "PDF_TEST_RUNTIME"

func TestMain(m *testing.M) {
	if os.Getenv(envBeRuntime) != "" {
		command.Main()
	}
	os.Exit(m.Run())
}

// function starts the runtime with the function.
func function(t *testing.T) plugintest.Function {
	t.Helper()
	if _, err := exec.LookPath("pdftotext"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("pdftotext is missing; install poppler-utils")
		}
		t.Skip("pdftotext is missing; install poppler-utils")
	}
	code, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	target := plugintest.ProcessTarget(plugintest.Process{
		Command: []string{os.Args[0]}, Env: []string{envBeRuntime + "=1", "PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir()},
		Setup: &plugins.Setup{Code: code},
	})
	return target.Start(t, plugintest.Options{})
}

func invoke(t *testing.T, f plugintest.Function, event []byte, attributes plugins.Attributes) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	call := &plugins.Call{Body: event}
	call.Attributes = attributes
	reply, err := f.Invoke(ctx, call)
	if err != nil {
		return "", err
	}
	defer reply.Release()
	return string(reply.Body), nil
}

func TestTextOfPDF(t *testing.T) {
	t.Parallel()
	f := function(t)
	event, err := os.ReadFile("testdata/two-pages.pdf")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name       string
		attributes plugins.Attributes
		want       []string
	}{
		{"all", nil, []string{"A covey of quail", "keeps warm together"}},
		{"first page", plugins.Attributes{{Name: "last", Value: "1"}}, []string{"A covey of quail"}},
		{"second page", plugins.Attributes{{Name: "first", Value: "2"}}, []string{"keeps warm together"}},
	} {
		text, err := invoke(t, f, event, c.attributes)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for line := range strings.Lines(strings.ReplaceAll(text, "\f", "\n")) {
			if line = strings.TrimSpace(line); line != "" {
				got = append(got, line)
			}
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestWhatIsNoPDFHasATypedError(t *testing.T) {
	t.Parallel()
	_, err := invoke(t, function(t), []byte("a quail"), nil)
	var failed *plugins.FunctionError
	if !errors.As(err, &failed) || failed.Type != "BadPDF" || failed.Unhandled {
		t.Errorf("got %v, want a *FunctionError of type BadPDF", err)
	}
}
