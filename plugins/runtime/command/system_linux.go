package command

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes processes whose parents have gone children of this one, so that they can be found and reaped.
// In a sandbox this process may be the first anyway.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// groupLeader starts a process group, which dies with this process.
func groupLeader() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// inputFile returns a file that holds b and is at its beginning. A file, unlike a pipe, needs nobody who fills it
// while the program reads.
func inputFile(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("input", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "input")
	if len(b) == 0 {
		return f, nil
	}
	// Written at its place, the offset stays where it is.
	if _, err := f.WriteAt(b, 0); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func pipe2(ends []int) error { return syscall.Pipe2(ends, syscall.O_CLOEXEC) }

// awaitExit returns when the process has ended, and does not reap it.
func awaitExit(p *process) {
	retry(func() error { return unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil) })
}

// children returns the processes whose parent this one is. Kernels are built without a shorter way.
func children() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	var found []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		// The name may hold anything, parentheses too; state and parent follow the last one.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(os.Getpid()) {
			found = append(found, pid)
		}
	}
	return found
}

// peakMemory is the greatest resident size in bytes; Linux counts kilobytes.
func peakMemory(u *syscall.Rusage) uint64 { return uint64(u.Maxrss) << 10 }

// cpuTime is the processor time that a running process used so far.
func cpuTime(pid int) time.Duration {
	const scheduled = 2 // the clock that counts what the scheduler gave
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// peakOf is the greatest resident size of a running process in bytes.
func peakOf(pid int) uint64 {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(status, []byte("VmHWM:"))
	fields := bytes.Fields(rest[:min(len(rest), 40)])
	if len(fields) == 0 {
		return 0
	}
	kilobytes, err := strconv.ParseUint(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return kilobytes << 10
}
