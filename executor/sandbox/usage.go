//go:build linux && (amd64 || arm64)

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Memory returns the bytes that the instance uses now: what its cgroup is charged
// with, less what the kernel could drop at once; without a cgroup the
// proportional set size of its processes. The second costs a walk over their page
// tables, about a millisecond per 100 MB: ask a few times a second, not more.
// After the end it returns os.ErrProcessDone.
func (p *Process) Memory() (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return 0, os.ErrProcessDone
	}
	if p.berth.cgroup != nil {
		return p.berth.cgroup.memory()
	}
	var sum int64
	for _, pid := range p.processes() {
		// A process that ended meanwhile uses nothing.
		n, _ := readKB(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
		sum += n
	}
	p.state.Peak = max(p.state.Peak, sum)
	return sum, nil
}

// Peak returns the most memory the instance has used so far. Without a cgroup it
// is the highest reading of Memory, or of one process by itself.
func (p *Process) Peak() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return p.state.Peak
	}
	return p.peakLocked()
}

func (p *Process) peakLocked() int64 {
	if p.berth.cgroup != nil {
		return p.berth.cgroup.peak()
	}
	peak := p.state.Peak
	for _, pid := range p.processes() {
		n, _ := readKB(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:")
		peak = max(peak, n)
	}
	return peak
}

// CPUTime returns the CPU time that the instance has used. It is cheap enough to
// be read before and after every invocation.
func (p *Process) CPUTime() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return p.state.CPUTime
	}
	t, _ := p.cpuTime()
	return t
}

// cpuTime asks the cgroup, which counts everything. Where there is none it reads
// the CPU clock of the code's process, which is exact but leaves out children
// that it has started.
func (p *Process) cpuTime() (time.Duration, error) {
	if p.berth.cgroup != nil {
		if t, err := p.berth.cgroup.cpu(); err == nil {
			return t, nil
		}
	}
	var ts unix.Timespec
	// The clock id of another process, as clock_getcpuclockid(3) makes it.
	const schedClock = 2
	if err := unix.ClockGettime(int32(^p.pid<<3|schedClock), &ts); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return time.Duration(ts.Nano()), nil
}

// processes returns the stage and its descendants. Orphans are among them, since
// process 1 adopts them.
func (p *Process) processes() []int {
	list := []int{p.stage}
	for i := 0; i < len(list) && i < 1<<12; i++ {
		dir := fmt.Sprintf("/proc/%d/task", list[i])
		tasks, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, task := range tasks {
			children, err := os.ReadFile(dir + "/" + task.Name() + "/children")
			if err != nil {
				continue
			}
			for field := range strings.FieldsSeq(string(children)) {
				if pid, err := strconv.Atoi(field); err == nil {
					list = append(list, pid)
				}
			}
		}
	}
	return list
}

// readKB reads a line such as "Pss:   12 kB" and returns bytes.
func readKB(path, key string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n * 1024, err
		}
	}
	return 0, errors.New(path + " has no " + key)
}
