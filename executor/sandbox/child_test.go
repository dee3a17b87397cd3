//go:build linux && (amd64 || arm64)

package sandbox

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// childPrograms are what the tests run as instances, and outside of a sandbox
// as daemons.
func childPrograms() map[string]func() {
	return map[string]func(){
		"daemon":    childDaemon,
		"leaks":     childLeaks,
		"describe":  childDescribe,
		"exit3":     func() { os.Exit(3) },
		"sleep":     childSleep,
		"escape":    childEscape,
		"linger":    childLinger,
		"orphans":   childOrphans,
		"spy":       childSpy,
		"serve":     childServe,
		"hog":       childHog,
		"spin":      childSpin,
		"forks":     childForks,
		"litter":    childLitter,
		"abstract":  childAbstract,
		"suicide":   childSuicide,
		"forbidden": childForbidden,
	}
}

// forever waits for a signal. (A bare select{} would be a deadlock to the runtime.)
func forever() {
	for {
		<-time.After(time.Hour)
	}
}

// childSleep says what it knows about itself and waits for a signal.
func childSleep() {
	fmt.Println("ready")
	forever()
}

// childSuicide tries to end process 1, and what the kernel lets it reach.
func childSuicide() {
	answer(map[string]string{
		"kill 1":  outcome(unix.Kill(1, unix.SIGKILL)),
		"trace 1": outcome(unix.PtraceAttach(1)),
		"mem 1":   outcome(tryOpen("/proc/1/mem")),
	})
}

// childEscape does what a program does that wants to survive: it ignores
// SIGTERM, and leaves a grandchild in a session of its own without descriptors.
func childEscape() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	token := os.Args[1]
	again := func(program string) {
		cmd := exec.Command("/proc/self/exe", token)
		cmd.Env = []string{childVariable + "=" + program} // sheds the sandbox's mark, if it can
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			fmt.Println("cannot escape:", err)
			os.Exit(1)
		}
	}
	again("linger")
	fmt.Println("ready")
	forever()
}

// childLinger forks once more, so that its parent is gone, and closes everything.
func childLinger() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	if os.Getppid() != 1 && len(os.Args) == 2 {
		cmd := exec.Command("/proc/self/exe", os.Args[1], "second")
		cmd.Env = os.Environ()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if cmd.Start() == nil {
			return
		}
	}
	for fd := range 64 {
		_ = unix.Close(fd)
	}
	forever()
}

// childOrphans makes grandchildren that outlive their parents and end, and tells
// how many zombies it sees afterwards.
func childOrphans() {
	for range 5 {
		if out, err := exec.Command("/bin/sh", "-c", "(sleep 0.01 &) ; exit 0").CombinedOutput(); err != nil {
			fmt.Println("cannot fork:", err, string(out))
			os.Exit(1)
		}
	}
	count := func() (living, zombies int) {
		files, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			_, rest, _ := bytes.Cut(text, []byte(") "))
			if bytes.HasPrefix(rest, []byte("Z")) {
				zombies++
			} else {
				living++
			}
		}
		return living, zombies
	}
	var report map[string]int
	for range 400 {
		living, zombies := count()
		report = map[string]int{"living": living, "zombies": zombies}
		if living == 2 && zombies == 0 {
			break
		}
		<-time.After(5 * time.Millisecond)
	}
	answer(report)
}

// spyReport is what childSpy finds out.
type spyReport struct {
	UID, GID, Pid int
	NoNewPrivs    string
	Capabilities  string
	Seccomp       string
	Env           []string
	Descriptors   map[string]string
	Dir           string
	Hostname      string
	Attempts      map[string]string // what was tried → outcome
	Environs      string            // environments of other processes that could be read
	Interfaces    []string
	Processes     int
}

// childSpy tries to reach everything that its arguments name: paths to read,
// addresses to dial (tcp:, unix:) and processes to signal (pid:).
func childSpy() {
	r := spyReport{UID: os.Getuid(), GID: os.Getgid(), Pid: os.Getpid(), Env: os.Environ(), Attempts: map[string]string{}}
	r.Dir, _ = os.Getwd()
	r.Hostname, _ = os.Hostname()
	r.Descriptors = map[string]string{}
	for fd := range 256 {
		if link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
			flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if flags&unix.FD_CLOEXEC == 0 { // the others are the Go runtime's
				r.Descriptors[strconv.Itoa(fd)] = link
			}
		}
	}
	r.NoNewPrivs, _ = statusField(os.Getpid(), "NoNewPrivs:")
	r.Capabilities, _ = statusField(os.Getpid(), "CapEff:")
	r.Seccomp, _ = statusField(os.Getpid(), "Seccomp:")
	for _, target := range os.Args[1:] {
		kind, rest, _ := strings.Cut(target, ":")
		var err error
		switch kind {
		case "tcp", "unix":
			var conn net.Conn
			if conn, err = net.DialTimeout(kind, rest, time.Second); err == nil {
				_ = conn.Close()
			}
		case "pid":
			pid, _ := strconv.Atoi(rest)
			err = unix.Kill(pid, 0)
		default:
			err = tryOpen(target)
		}
		r.Attempts[target] = outcome(err)
	}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		r.Processes++
		if pid != os.Getpid() {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			r.Environs += string(text)
		}
	}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		r.Interfaces = append(r.Interfaces, i.Name)
	}
	answer(r)
}

// tryOpen opens a file or lists a directory.
func tryOpen(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// childForbidden makes system calls that the filter refuses.
func childForbidden() {
	dir, _ := os.Getwd()
	_, _, clone3 := unix.Syscall(unix.SYS_CLONE3, 0, 0, 0)
	_, _, clone := unix.Syscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	_, _, uring := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
	_, _, bpf := unix.Syscall(unix.SYS_BPF, 0, 0, 0)
	_, _, keyctl := unix.Syscall(unix.SYS_KEYCTL, 0, 0, 0)
	_, _, tiocsti := unix.Syscall(unix.SYS_IOCTL, 1, unix.TIOCSTI, 0)
	answer(map[string]string{
		"mount":      outcome(unix.Mount("none", dir, "tmpfs", 0, "")),
		"unshare":    outcome(unix.Unshare(unix.CLONE_NEWUSER)),
		"ptrace":     outcome(unix.PtraceAttach(1)),
		"clone user": clone.Error(),
		"clone3":     clone3.Error(),
		"io_uring":   uring.Error(),
		"bpf":        bpf.Error(),
		"keyctl":     keyctl.Error(),
		"tiocsti":    tiocsti.Error(),
	})
}

// childServe listens on a socket in the private directory and answers once.
func childServe() {
	dir, _ := os.Getwd()
	l, err := net.Listen("unix", filepath.Join(dir, "plugin.sock"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	conn, err := l.Accept()
	if err != nil {
		os.Exit(1)
	}
	_, _ = conn.Write([]byte("hello"))
	_ = conn.Close()
	forever()
}

// childAbstract listens on an abstract socket, which no directory protects.
func childAbstract() {
	if _, err := net.Listen("unix", "@"+os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	forever()
}

// childHog touches as many MiB as its argument says, then waits.
func childHog() {
	mib, _ := strconv.Atoi(os.Args[1])
	memory := make([]byte, mib<<20)
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	fmt.Println("ready")
	<-time.After(time.Hour)
	fmt.Println(memory[0])
}

// childSpin uses the CPU for a while, then waits.
func childSpin() {
	var use unix.Rusage
	for use.Utime.Nano() < int64(200*time.Millisecond) {
		for range 100_000 {
			_ = strconv.Itoa(7)
		}
		_ = unix.Getrusage(unix.RUSAGE_SELF, &use)
	}
	fmt.Println("ready")
	forever()
}

// childForks starts processes until it may not.
func childForks() {
	for n := 0; ; n++ {
		if err := exec.Command("/bin/sleep", "60").Start(); err != nil || n == 200 {
			answer(map[string]any{"started": n, "error": outcome(err)})
			return
		}
	}
}

// childLitter fills the places it may write to.
func childLitter() {
	dir, _ := os.Getwd()
	attempt := map[string]string{}
	for _, place := range []string{dir, os.TempDir(), "/usr", "/etc", "/", "/dev", "/proc/sys/kernel", filepath.Dir(dir)} {
		err := os.WriteFile(filepath.Join(place, "litter"), []byte("x"), 0o600)
		attempt[place] = "refused"
		if err == nil {
			attempt[place] = "written"
		}
	}
	locked := filepath.Join(dir, "locked", "deeper")
	_ = os.MkdirAll(locked, 0o700)
	_ = os.Symlink("/", filepath.Join(dir, "root"))
	_ = os.Chmod(filepath.Dir(locked), 0)
	attempt["umask"] = fmt.Sprintf("%03o", unix.Umask(0))
	answer(attempt)
}
