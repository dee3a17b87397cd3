package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// stageVariable says that the process is no instance but an orphan on its way.
const stageVariable = "LEDGER_ORPHAN"

// orphanLife bounds an orphan that nobody ends, so that a failed test leaves
// nothing for ever.
const orphanLife = 2 * time.Minute

// leaveOrphan starts the first of the two forks and waits for it to end, as the
// shell of a daemon of old would.
func leaveOrphan(marker string) error {
	if err := startStage("1", marker); err != nil {
		return fmt.Errorf("leave orphan: %w", err)
	}
	return nil
}

// orphan is a stage: the first starts the second and exits, which takes the
// second's parent away; the second outstays its welcome.
func orphan() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	marker := os.Args[len(os.Args)-1]
	if os.Getenv(stageVariable) == "1" {
		if err := startStage("2", marker); err != nil {
			os.Exit(1)
		}
		return
	}
	for fd := range 64 { // the runtime's own too, so from here on without timers
		_ = syscall.Close(fd)
	}
	nap := syscall.NsecToTimespec(int64(orphanLife))
	for errors.Is(syscall.Nanosleep(&nap, &nap), syscall.EINTR) {
	}
}

// startStage runs this program again in a session of its own. The first stage is
// waited for, the second is not.
func startStage(stage, marker string) error {
	cmd := exec.Command("/proc/self/exe", marker)
	cmd.Env = append(os.Environ(), stageVariable+"="+stage)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if stage == "1" {
		return cmd.Run()
	}
	return cmd.Start()
}
