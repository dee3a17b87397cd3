package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/plugins/plugintest"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// shell starts the runtime with a shell script as the function.
func shell(t *testing.T, script string, env ...frame.Attribute) plugintest.Function {
	t.Helper()
	return start(t, plugins.Setup{Code: code(t, map[string]string{"script*": "#!/bin/sh\n" + script}), Env: env})
}

func start(t *testing.T, s plugins.Setup) plugintest.Function {
	t.Helper()
	target := plugintest.ProcessTarget(plugintest.Process{
		Command: []string{os.Args[0]},
		Env:     []string{envBeRuntime + "=1", "TMPDIR=" + t.TempDir(), "PATH=" + os.Getenv("PATH")},
		Setup:   &s,
	})
	return target.Start(t, plugintest.Options{})
}

func invoke(ctx context.Context, f plugintest.Function, event string, attributes ...frame.Attribute) (string, error) {
	reply, err := call(ctx, f, event, attributes...)
	if err != nil {
		return "", err
	}
	defer reply.Release()
	if reply.Stream != nil {
		defer reply.Stream.Close()
		b, err := io.ReadAll(reply.Stream)
		return string(b), err
	}
	return string(reply.Body), nil
}

func call(ctx context.Context, f plugintest.Function, event string, attributes ...frame.Attribute) (*plugins.Reply, error) {
	c := &plugins.Call{Body: []byte(event)}
	c.RequestID, c.Attempt, c.Attributes = "request-1", 1, attributes
	return f.Invoke(ctx, c)
}

// gone waits until no process has the number.
func gone(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(pid))
	if err != nil || n <= 1 {
		t.Fatalf("%q is no process", pid)
	}
	eventually(t, func() error {
		if err := syscall.Kill(n, 0); err == nil {
			return fmt.Errorf("process %d is still there", n)
		}
		return nil
	})
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestInputAndOutput(t *testing.T) {
	t.Parallel()
	f := shell(t, `printf '%s|%s|%s|' "$1" "$COVEY_REQUEST_ID" "$PWD"; cat; echo aside >&2`, frame.Attribute{Name: envContentType, Value: "text/plain"})
	large := strings.Repeat("0123456789", 500_000)
	for _, event := range []string{"", "x", large} {
		reply, err := call(t.Context(), f, event)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(reply.Body); !strings.HasPrefix(got, "|request-1|/") || !strings.HasSuffix(got, "|"+event) {
			t.Errorf("got %.100q", got)
		}
		if reply.ContentType != "text/plain" {
			t.Errorf("the content type is %q", reply.ContentType)
		}
		if reply.Stats.CPU == 0 || reply.Stats.PeakMemory == 0 {
			t.Errorf("no usage: %+v", reply.Stats)
		}
		reply.Release()
	}
	lines, err := f.Logs("request-1")
	if err != nil || len(lines) != 3 || lines[0].Message != "aside" {
		t.Errorf("got the lines %+v, %v", lines, err)
	}
}

func TestErrorsOfPrograms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script       string
		typ, message       string
		unhandled, succeed bool
	}{
		{name: "status", script: "echo one >&2; echo two >&2; exit 3", typ: "ExitCode", message: "exit status 3: one\ntwo", unhandled: true},
		{name: "signal", script: "kill -SEGV $$", typ: "Signal", message: "signal 11", unhandled: true},
		{name: "typed", script: `echo '{"errorType":"NotFound","errorMessage":"no worm"}' >&2; exit 1`, typ: "NotFound", message: "no worm"},
		{name: "not a program", script: "exec /dev/null", typ: "ExitCode", message: "exit status 126", unhandled: true},
		{name: "no error without a status", script: `echo '{"errorType":"NotFound"}' >&2`, succeed: true},
	} {
		_, err := invoke(t.Context(), shell(t, c.script), "")
		var failed *plugins.FunctionError
		switch {
		case c.succeed && err == nil:
		case !errors.As(err, &failed):
			t.Errorf("%s: got %v", c.name, err)
		case failed.Type != c.typ || !strings.Contains(failed.Message, c.message) || failed.Unhandled != c.unhandled:
			t.Errorf("%s: got %+v", c.name, failed)
		}
	}
}

func TestWhatAProgramLeavesEndsWithItsCall(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"a child":                    "sleep 300 & echo $!",
		"a child without the output": "sleep 300 >/dev/null 2>&1 & echo $!",
		"a session of its own":       "setsid sh -c 'echo $$; exec sleep 300' & sleep 0.2",
		"one that ignores signals":   "sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 1; done' & sleep 0.1",
	} {
		begin := time.Now()
		pid, err := invoke(t.Context(), shell(t, script), "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		gone(t, pid)
		if took := time.Since(begin); took > patience/2 {
			t.Errorf("%s: the call took %v", name, took)
		}
	}
}

func TestCancelledProgramsEnd(t *testing.T) {
	t.Parallel()
	for _, script := range map[string]string{
		"one that waits":                 "echo $$; exec sleep 300",
		"one that does not want to":      "trap '' TERM; echo $$; while :; do sleep 0.1; done",
		"one whose child does the work":  "sh -c 'echo $$; exec sleep 300'; true",
		"one that cleans up when it has": "trap 'exit 0' TERM; echo $$; while :; do sleep 0.01; done",
	} {
		f := shell(t, script, frame.Attribute{Name: envStream, Value: "1"})
		ctx, cancel := context.WithCancel(t.Context())
		reply, err := f.Invoke(ctx, &plugins.Call{})
		if err != nil {
			t.Fatal(err)
		}
		pid := make([]byte, 20)
		n, err := reply.Stream.Read(pid)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		gone(t, string(pid[:n]))
		_ = reply.Stream.Close()
		reply.Release()
	}
}

func TestEndlessOutputIsEnded(t *testing.T) {
	t.Parallel()
	_, err := invoke(t.Context(), shell(t, "exec yes"), "")
	var failed *plugins.FunctionError
	if !errors.As(err, &failed) || failed.Type != "ResponseTooLarge" {
		t.Errorf("got %v, want a *FunctionError of type ResponseTooLarge", err)
	}
}

func TestInitialisationOfPrograms(t *testing.T) {
	t.Parallel()
	const script = `[ -z "$COVEY_EXEC_INIT" ] || { echo once >>"$TMPDIR/init"; exit $STATUS; }; cat "$TMPDIR/init"`
	on := frame.Attribute{Name: envInit, Value: "1"}
	f := shell(t, script, on, frame.Attribute{Name: "STATUS", Value: "0"})
	for range 2 {
		if got, err := invoke(t.Context(), f, ""); err != nil || got != "once\n" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	_, err := invoke(t.Context(), shell(t, script, on, frame.Attribute{Name: "STATUS", Value: "1"}), "")
	var failed *plugins.InitError
	if !errors.As(err, &failed) || failed.Type != "ExitCode" {
		t.Errorf("got %v, want an *InitError", err)
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for _, env := range []frame.Attribute{{Name: envMode, Value: "carrier pigeon"}} {
		_, err := invoke(t.Context(), shell(t, "", env), "")
		var failed *plugins.InitError
		if !errors.As(err, &failed) || failed.Type != "BadSetting" {
			t.Errorf("%+v: got %v, want an *InitError of type BadSetting", env, err)
		}
	}
}
