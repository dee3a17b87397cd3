//go:build unix && !linux

package command

import (
	"os"
	"syscall"
	"time"
)

func adoptOrphans() {}

// groupLeader starts a process group.
func groupLeader() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// inputFile returns a file that holds b and is at its beginning.
func inputFile(b []byte) (*os.File, error) {
	f, err := os.CreateTemp("", "input")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func pipe2(ends []int) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := syscall.Pipe(ends); err != nil {
		return err
	}
	syscall.CloseOnExec(ends[0])
	syscall.CloseOnExec(ends[1])
	return nil
}

// awaitExit cannot look without reaping. A number that is given away again before the group is ended is the risk
// of systems on which nodes are only tried out.
func awaitExit(p *process) {
	var status syscall.WaitStatus
	var usage syscall.Rusage
	retry(func() error {
		_, err := syscall.Wait4(p.pid, &status, 0, &usage)
		return err
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.usage, p.reaped = status, usage, true
}

func children() []int { return nil }

// peakMemory is the greatest resident size in bytes.
func peakMemory(u *syscall.Rusage) uint64 { return uint64(u.Maxrss) }

func cpuTime(int) time.Duration { return 0 }

func peakOf(int) uint64 { return 0 }
