//go:build linux && (amd64 || arm64)

package sandbox

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a started instance with everything that it has started since. Its
// methods are safe for concurrent use and may be called after it has ended.
type Process struct {
	sandbox *Sandbox
	berth   *berth

	stage     int // child of the daemon: process 1 of the instance, or the code itself
	stageFD   int // pidfd of stage
	stagePoll *os.File
	exit      int // pipe on which process 1 tells how the code ended, or -1
	pid       int // the code
	received  int // first descriptor that an order brings, while the stage is parked

	done chan struct{} // closed when no process is left and state is set
	gone chan struct{} // closed when directory, cgroup and slot are given back

	mu     sync.Mutex
	state  State
	reaped bool // stage and pid may belong to somebody else from now on
	report int  // the daemon's end of the socket to a parked stage, or -1
}

// Pid returns the process id of the instance's code as the daemon sees it.
func (p *Process) Pid() int { return p.pid }

// Dir returns the private directory: writable for the instance, at the same path
// inside and outside, and removed after the end. Sockets that the daemon is to
// reach belong here.
func (p *Process) Dir() string { return p.berth.dir }

// Done is closed when no process of the instance is left. State is final then;
// the private directory may exist a moment longer.
func (p *Process) Done() <-chan struct{} { return p.done }

// State returns how the instance's code ended.
func (p *Process) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Kill ends everything of the instance and returns when all of it is gone:
// processes, cgroup, private directory. Calling it again, or late, is fine.
func (p *Process) Kill() {
	p.kill()
	<-p.gone
}

// kill sends the signal only. The death of process 1 is the death of its pid
// namespace; what the others have used is not counted to it then, so it is read
// before.
func (p *Process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped || p.stage == 0 {
		return
	}
	p.state.CPUTime, _ = p.cpuTime()
	p.state.Peak = p.peakLocked()
	_ = unix.Kill(p.stage, unix.SIGKILL)
}

// Signal sends sig to the instance's code, not to its descendants. It returns
// os.ErrProcessDone after the end.
func (p *Process) Signal(sig os.Signal) error {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return errors.ErrUnsupported
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return os.ErrProcessDone
	}
	err := unix.Kill(p.pid, number)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// waitExit returns when the stage is dead, but not reaped yet.
func (p *Process) waitExit() {
	conn, err := p.stagePoll.SyscallConn()
	if err == nil {
		// A pidfd becomes readable when its process is dead.
		err = conn.Read(func(fd uintptr) bool {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(poll, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
	}
	if err != nil {
		p.sandbox.log.Warn().Err(err).Str("dir", p.Dir()).Msg("waiting in a thread for an instance")
	}
}

// reap collects the stage, waiting for its death, ends what escaped it, and sets
// the state.
func (p *Process) reap() {
	if p.stagePoll != nil {
		defer p.stagePoll.Close()
	}
	// Without reaping first: until then the ids are not anybody else's.
	for {
		err := unix.Waitid(unix.P_PID, p.stage, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	final := State{Exited: true, Code: -1}
	final.CPUTime, _ = p.cpuTime()
	if p.berth.cgroup != nil {
		final.Peak, final.OOM = p.berth.cgroup.peak(), p.berth.cgroup.oom()
	}
	p.sweep()
	var usage unix.Rusage
	var status unix.WaitStatus
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		_, err := unix.Wait4(p.stage, &status, 0, &usage)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.reaped = true
	if p.exit >= 0 {
		status = p.toldStatus()
	}
	if status.Exited() {
		final.Code = status.ExitStatus()
	} else if status.Signaled() {
		final.Signal = status.Signal()
	}
	// The stage's usage includes all descendants that were waited for.
	used := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	final.CPUTime = max(final.CPUTime, used, p.state.CPUTime)
	if p.berth.cgroup == nil {
		final.Peak = max(p.state.Peak, usage.Maxrss*1024)
	}
	p.state = final
}

// toldStatus returns what process 1 wrote before it exited. Without a word it was
// killed, and the code with it.
func (p *Process) toldStatus() unix.WaitStatus {
	var b [8]byte // the guard's byte, then the status
	n, _ := unix.Read(p.exit, b[:])
	if n < 5 {
		return unix.WaitStatus(unix.SIGKILL)
	}
	return unix.WaitStatus(binary.NativeEndian.Uint32(b[1:]))
}

// sweep ends descendants of an instance that has no pid namespace: by cgroup, by
// user id, by process group and by the mark in the environment, whichever exist.
func (p *Process) sweep() {
	if p.sandbox.mode.namespaces {
		return
	}
	_ = unix.Kill(-p.stage, unix.SIGKILL)
	if p.berth.cgroup != nil {
		for _, dir := range p.berth.cgroup.dirs {
			endCgroup(dir)
		}
	}
	match := func(pid int) bool { return pid != p.stage && hasEnv(pid, p.sandbox.mark(p)) }
	if p.sandbox.mode.uids {
		uid := p.sandbox.slots.uid(p.berth.slot)
		match = func(pid int) bool { return pid != p.stage && ownedBy(pid, uid) }
	}
	endProcesses(match)
}

// release gives back what the instance had.
func (p *Process) release() {
	s := p.sandbox
	if p.exit >= 0 {
		_ = unix.Close(p.exit)
	}
	if report := p.takeReport(); report >= 0 {
		_ = unix.Close(report)
	}
	s.berths.discard(p.berth)
	s.mu.Lock()
	delete(s.living, p)
	s.mu.Unlock()
}
