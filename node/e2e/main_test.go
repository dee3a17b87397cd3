package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/nodetest"
)

// The programs under test, built once before the first test.
var coveyBin, functionBin string

// atOnce is how many tests run at a time, whatever the number of CPUs: they wait
// for timeouts of the cluster most of the time.
const atOnce = "6"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := parallel(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	dir, err := build()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	go spawn()
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	}
	os.Exit(code)
}

// parallel sets how many tests run at a time unless the command line did.
func parallel() error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", atOnce)
}

// build compiles the programs: what is tested here is what users run.
func build() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "covey-e2e-"); err != nil {
		return "", err
	}
	if err := nodetest.Build(dir, "cmd/covey", "node/e2e/ledger/function", "plugins/examples/echo", "plugins/examples/hello"); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	coveyBin, functionBin = filepath.Join(dir, "covey"), filepath.Join(dir, "function")
	return dir, nil
}

// soak tells whether the long counts are asked for.
func soak() bool { return os.Getenv("COVEY_SOAK") != "" }

// needRoot skips a test that needs root, but fails it in CI, where root is.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("this test needs root, and CI must not skip it")
	}
	t.Skip("needs root")
}

// starts are the processes to be started by spawn.
var starts = make(chan func())

// spawn starts processes from one thread that lives as long as the test binary:
// the kernel ends a child with the thread that it was started from, so that a
// test binary that crashes or is killed leaves no daemons behind.
func spawn() {
	runtime.LockOSThread()
	for start := range starts {
		start()
	}
}

// startProcess starts cmd through spawn.
func startProcess(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	starts <- func() { done <- cmd.Start() }
	return <-done
}

// await calls check until it returns nil, and fails the test with its last error
// after the given time.
func await(t testing.TB, most time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(most)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, most, err)
		}
		<-tick.C
	}
}
