//go:build linux && (amd64 || arm64)

package sandbox

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParkableIsWhatAnOrderCanSay(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*Spec)
		want   bool
	}{
		{"plain", func(*Spec) {}, true},
		{"memory", func(s *Spec) { s.Memory = 1 << 30 }, true},
		{"some files", func(s *Spec) { s.Files = make([]*os.File, parkedFiles) }, true},
		{"many files", func(s *Spec) { s.Files = make([]*os.File, parkedFiles+1) }, false},
		{"network", func(s *Spec) { s.Network = true }, false},
		{"paths", func(s *Spec) { s.ReadPaths = []string{"/srv"} }, false},
		{"paths to write", func(s *Spec) { s.WritePaths = []string{"/srv"} }, false},
		{"processes", func(s *Spec) { s.Pids = 4 }, false},
		{"descriptors", func(s *Spec) { s.NoFile = 4 }, false},
		{"space", func(s *Spec) { s.TmpSize = 1 << 20 }, false},
	} {
		spec := &Spec{Instance: "x", Path: "/bin/true"}
		tc.change(spec)
		setDefaults(spec)
		if got := parkable(spec); got != tc.want {
			t.Errorf("%s: got %v", tc.name, got)
		}
	}
}

// parkedSandbox returns a sandbox that parks its stages.
func parkedSandbox(t *testing.T) *Sandbox {
	t.Helper()
	needRoot(t)
	s := newSandbox(t)
	if !s.mode.template {
		t.Skip("stages are parked in a template only")
	}
	return s
}

// takeParked returns a parked stage, which the test drops.
func takeParked(t *testing.T, s *Sandbox) *Process {
	t.Helper()
	b, err := s.berths.take()
	if err != nil {
		t.Fatal(err)
	}
	if b.parked == nil {
		t.Fatal("no stage is parked in the berth")
	}
	t.Cleanup(b.parked.Kill)
	return b.parked
}

func TestParkedStageBecomesTheInstance(t *testing.T) {
	t.Parallel()
	s := parkedSandbox(t)
	p := takeParked(t, s)
	out, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	spec := &Spec{Instance: "x", Path: "/bin/sh", Args: []string{"sh", "-c", "echo $$ $WORD; exit 5"}, Env: []string{"WORD=moss"}, Stdout: theirs}
	setDefaults(spec)
	pid := p.Pid()
	err = s.order(p, spec, false)
	_ = theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	if got := (&child{p, out}).output(t); got != "2 moss\n" {
		t.Errorf("output %q", got)
	}
	<-p.Done()
	if st := p.State(); st.Code != 5 || p.Pid() != pid {
		t.Errorf("ended with %+v, process %d was %d", st, p.Pid(), pid)
	}
}

func TestParkedStageReportsWhatTheKernelRefuses(t *testing.T) {
	t.Parallel()
	s := parkedSandbox(t)
	_, err := s.Start(t.Context(), Spec{Instance: "x", Path: "/no/such/program"})
	setup, ok := errors.AsType[*SetupError](err)
	if !ok || setup.Step != "exec" || !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
	_, err = s.Start(t.Context(), Spec{Instance: "x", Path: "/bin/true", Env: []string{"X=" + strings.Repeat("x", scriptSize)}})
	if !errors.Is(err, unix.E2BIG) {
		t.Errorf("endless environment: got %v", err)
	}
}

func TestStartPassesOverStagesThatDied(t *testing.T) {
	t.Parallel()
	s := parkedSandbox(t)
	eventually(t, time.Minute, berthReady(s))
	s.mu.Lock()
	parked := slices.Collect(maps.Keys(s.living))
	for _, p := range parked {
		p.kill()
	}
	s.mu.Unlock()
	for _, p := range parked {
		<-p.Done()
	}
	for range berthsReady + 1 {
		if st := startChild(t, s, "exit3").wait(t); st.Code != 3 {
			t.Fatalf("got %+v", st)
		}
	}
}

func TestLimitsOfItsOwnAreKept(t *testing.T) {
	t.Parallel()
	s := parkedSandbox(t)
	c := startChild(t, s, "shell", func(spec *Spec) {
		spec.Code, spec.Path, spec.NoFile = nil, "/bin/sh", 77
		spec.Args = []string{"sh", "-c", "ulimit -n"}
	})
	if got := c.output(t); got != "77\n" {
		t.Errorf("limit of descriptors %q", got)
	}
}

func TestOrderAfterCloseIsRefused(t *testing.T) {
	t.Parallel()
	s := parkedSandbox(t)
	p := takeParked(t, s)
	p.Kill()
	if err := s.order(p, &Spec{Instance: "x", Path: "/bin/true"}, false); !errors.Is(err, errParkedGone) {
		t.Errorf("got %v, want errParkedGone", err)
	}
}
