package command

import (
	"errors"
	"sync"
	"syscall"
	"time"
)

// family is the processes that run for the calls of this instance. The zero value is empty.
type family struct {
	mu      sync.Mutex
	running int
}

// process is one running program, and its process group.
type process struct {
	family *family
	pid    int
	status syscall.WaitStatus
	usage  syscall.Rusage

	mu     sync.Mutex
	reaped bool // its number may belong to somebody else
	kills  *time.Timer
}

// start runs the program in a process group of its own, with these descriptors as its standard ones.
func (f *family) start(program *executable, env []string, files []uintptr) (*process, error) {
	f.mu.Lock()
	f.running++
	f.mu.Unlock()
	pid, err := syscall.ForkExec(program.path, program.args, &syscall.ProcAttr{
		Dir: program.dir, Env: env, Files: files, Sys: groupLeader(),
	})
	if err != nil {
		f.leave()
		return nil, err
	}
	return &process{family: f, pid: pid}, nil
}

func (f *family) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running--
}

// wait returns when the program has ended, and every process of its group with it.
func (p *process) wait() {
	awaitExit(p)
	p.mu.Lock()
	// Until it is reaped, nobody else gets its number, and the group is this one.
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	if p.kills != nil {
		p.kills.Stop()
	}
	if !p.reaped {
		p.reapLocked()
	}
	p.mu.Unlock()
	p.family.leave()
	p.reapGroup()
}

func (p *process) reapLocked() {
	retry(func() error {
		_, err := syscall.Wait4(p.pid, &p.status, 0, &p.usage)
		return err
	})
	p.reaped = true
}

// reapGroup reaps what is left of the group, which was killed a moment ago and is ours to reap if its parents have
// gone. Processes that get the group's number later are not in danger: nothing is killed here.
func (p *process) reapGroup() {
	pause := 50 * time.Microsecond
	for range 20 {
		if syscall.Kill(-p.pid, 0) != nil {
			return
		}
		var status syscall.WaitStatus
		if pid, _ := syscall.Wait4(-p.pid, &status, syscall.WNOHANG, nil); pid > 0 {
			continue
		}
		time.Sleep(pause)
		pause = min(2*pause, 10*time.Millisecond)
	}
}

// end asks the program to end, and makes it end if it does not.
func (p *process) end() {
	p.signal(syscall.SIGTERM)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		p.kills = time.AfterFunc(grace, p.kill)
	}
}

// kill ends the program at once.
func (p *process) kill() { p.signal(syscall.SIGKILL) }

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		// It may have just ended; then there is nothing to do.
		_ = syscall.Kill(-p.pid, s)
	}
}

// clear ends the processes that left their group and outlived their call. While other calls run they cannot
// be told from those calls' own, and they live until the last of these ends.
func (f *family) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	pause := 50 * time.Microsecond
	for range 30 {
		if f.running > 0 {
			return
		}
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.ECHILD):
			return // The usual case: there is nobody.
		case err != nil || pid > 0:
			continue
		}
		for _, child := range children() {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
		time.Sleep(pause)
		pause = min(2*pause, 10*time.Millisecond)
	}
}

// reapOrphans reaps the children that this process did not start. It is for hosts whose only process of their own
// is that one.
func reapOrphans(own int) {
	for _, child := range children() {
		if child != own {
			var status syscall.WaitStatus
			_, _ = syscall.Wait4(child, &status, syscall.WNOHANG, nil)
		}
	}
}

// retry repeats a system call that a signal interrupted.
func retry(f func() error) {
	for errors.Is(f(), syscall.EINTR) {
	}
}
