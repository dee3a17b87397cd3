//go:build linux && (amd64 || arm64)

package sandbox

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// launcher starts stages from one operating system thread that lives as long as
// the daemon. Three things hang on that thread:
//
//   - The death signal: the kernel sends it when the thread that made a child
//     ends, not the process. Go ends threads when it likes; this one it cannot.
//   - The root: a mount namespace belongs to a thread. In a template launcher the
//     thread stands in the finished root of the instances, and a child gets a
//     copy of that for the price of one clone flag.
//   - Order: forks are serialized by the syscall package anyhow, so a second
//     thread would only wait.
type launcher struct {
	requests chan func()
	done     sync.WaitGroup
}

// startLauncher runs prepare on the new thread first and fails with it.
func startLauncher(prepare func() error) (*launcher, error) {
	l := &launcher{requests: make(chan func())}
	ready := make(chan error, 1)
	ownThread(&l.done, func() {
		err := prepare()
		ready <- err
		if err != nil {
			return
		}
		for request := range l.requests {
			request()
		}
	})
	if err := <-ready; err != nil {
		l.done.Wait()
		return nil, err
	}
	return l, nil
}

// ownThread runs f in a goroutine, counted by wg, on a thread that no other
// goroutine will ever use and that ends with f. It is never the process's first
// thread, for that one cannot end, and /proc/self shows its namespaces.
func ownThread(wg *sync.WaitGroup, f func()) {
	wg.Go(func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// Hold the first thread until the next goroutine has found another.
		elsewhere := make(chan struct{})
		wg.Go(func() {
			runtime.LockOSThread()
			close(elsewhere)
			f()
		})
		<-elsewhere
		runtime.UnlockOSThread()
	})
}

// do runs f on the launcher's thread. It must not be called after close.
func (l *launcher) do(f func()) {
	done := make(chan struct{})
	l.requests <- func() { defer close(done); f() }
	<-done
}

// close ends the thread, and with it every child that still lives.
func (l *launcher) close() {
	close(l.requests)
	l.done.Wait()
}

// templateStage is where a template root keeps the stage; only root may see it.
const templateStage = "/.stage"

// enterTemplate moves the calling thread into a mount namespace of its own whose
// root is the layout, mounted on scratch, an empty directory.
func enterTemplate(layout *rootLayout, scratch string, stage []byte) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	s := newLocalScript()
	layout.frame(s, scratch)
	if err := s.run(); err != nil {
		return err
	}
	if err := layout.copyFiles(scratch); err != nil {
		return err
	}
	if err := writeProgram(filepath.Join(scratch, templateStage), stage, 0o500); err != nil {
		return err
	}
	s = newLocalScript()
	s.pivot(scratch)
	return s.run()
}
