package lambda

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sampleEvery is how old the known greatest size of the program may be. Asking costs the kernel more than a
// short call takes.
const sampleEvery = 100 * time.Millisecond

// child starts the function's program and sees it end.
type child struct {
	output *output
	null   *os.File
	starts chan start

	path string
	args []string
	env  []string
	code string

	mu      sync.Mutex
	pid     int           // guarded by mu; 0 while there is none
	cpu     time.Duration // guarded by mu; already accounted
	status  *os.File      // guarded by mu; what the kernel says of it
	peak    uint64        // guarded by mu; in bytes
	sampled time.Time     // guarded by mu
}

// start asks for one run of the program.
type start struct {
	begun chan<- error
	ended func(exit)
}

// exit is how the program ended.
type exit struct {
	status int // what a shell would call it: 128 and the signal's number, if it was one
	signal syscall.Signal
}

// String completes "the program …".
func (e exit) String() string {
	if e.signal != 0 {
		return fmt.Sprintf("was ended by signal %d (%s)", e.signal, e.signal)
	}
	return fmt.Sprintf("ended with exit status %d", e.status)
}

func newChild(j *journal) (*child, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	output, err := newOutput(j)
	if err != nil {
		return nil, err
	}
	c := &child{output: output, null: null, starts: make(chan start)}
	// It lives as long as the process.
	go c.run()
	return c, nil
}

// use says what to start.
func (c *child) use(p *program, env []string, folder string) {
	c.path, c.args, c.env, c.code = p.path, p.args, env, folder
}

// start starts the program. ended is called once it has ended.
func (c *child) start(ended func(exit)) error {
	begun := make(chan error, 1)
	c.starts <- start{begun: begun, ended: ended}
	if err := <-begun; err != nil {
		return wrongPackage("start %s: %v", c.path, err) //nolint:errorlint // It goes to the deployer as text.
	}
	return nil
}

// run is the one thread that starts programs: the kernel ends them when the thread that started them ends, so
// that none outlives this process, whatever ends it.
func (c *child) run() {
	runtime.LockOSThread()
	for s := range c.starts {
		pid, err := c.fork()
		s.begun <- err
		if err == nil {
			s.ended(c.wait(pid))
		}
	}
}

func (c *child) fork() (int, error) {
	out := c.output.w.Fd()
	pid, err := syscall.ForkExec(c.path, c.args, &syscall.ProcAttr{
		Dir: c.code, Env: c.env, Files: []uintptr{c.null.Fd(), out, out},
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return 0, err
	}
	// Without it the program's size stays unknown, which hurts nobody.
	status, _ := os.Open("/proc/" + strconv.Itoa(pid) + "/status")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pid, c.cpu, c.status, c.sampled = pid, 0, status, time.Time{}
	return pid, nil
}

// wait waits for the program's end. In a sandbox this process is the first of its kind, and inherits the
// programs whose parents have ended: they are waited for too.
func (c *child) wait(pid int) exit {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) || err == nil && got != pid {
			continue
		}
		c.mu.Lock()
		_ = c.status.Close()
		c.pid, c.status = 0, nil
		c.mu.Unlock()
		c.output.pump()
		switch {
		case err == nil && status.Signaled():
			return exit{status: 128 + int(status.Signal()), signal: status.Signal()}
		case err == nil && status.Exited():
			return exit{status: status.ExitStatus()}
		}
		return exit{status: 1} // The kernel lost it, which it does not do.
	}
}

// usage returns the processor time that the program used since it was last asked, and the greatest size that it
// is known to have had.
func (c *child) usage() (cpu time.Duration, peak uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pid == 0 {
		return 0, c.peak
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(processClock(c.pid), &ts); err == nil {
		now := time.Duration(ts.Nano())
		cpu, c.cpu = max(now-c.cpu, 0), now
	}
	if now := time.Now(); now.Sub(c.sampled) >= sampleEvery {
		c.sampled = now
		c.peak = max(c.peak, readPeak(c.status))
	}
	return cpu, c.peak
}

// processClock is the clock that counts a process's time on the processor (see clock_getcpuclockid).
func processClock(pid int) int32 {
	const scheduled = 2
	return ^int32(pid)<<3 | scheduled
}

// readPeak finds the greatest resident size in what the kernel says of a process.
func readPeak(status *os.File) uint64 {
	var buf [2048]byte
	n, _ := status.ReadAt(buf[:], 0) // The end of the file is an error too.
	_, rest, found := bytes.Cut(buf[:n], []byte("VmHWM:"))
	if !found {
		return 0
	}
	fields := bytes.Fields(rest[:min(len(rest), 32)])
	if len(fields) == 0 {
		return 0
	}
	kilobytes, err := strconv.ParseUint(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return kilobytes << 10
}
