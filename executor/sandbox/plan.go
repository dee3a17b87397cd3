//go:build linux && (amd64 || arm64)

package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// plan is everything that one start needs: the script and the descriptors that
// the stage inherits. The comments give the order, and the order is the security:
// what needs power comes first, what takes it away comes last.
type plan struct {
	mode    mode
	spec    *Spec
	dir     string // the private directory, the same path inside and outside
	uid     uint32
	root    string // where the root is built; "" when the stage stands in it
	layout  *rootLayout
	filter  []unix.SockFilter
	env     []string
	probe   bool // exit with 0 instead of executing the code
	park    bool // wait for an order instead; see park.go
	cgroup  *cgroup
	network *os.File // namespace to join

	// shown are the paths that attach adds to the template, with whether each is
	// a directory: their places are made before the fork.
	shown map[string]bool

	script *script
	files  []*os.File // descriptors 0, 1, … of the stage
	owned  []*os.File // those that close closes
	code   int        // descriptor of the code, or 0
	first  int        // first descriptor that the code must not inherit
	null   int
	report int
	exit   int // -1 without a process 1
}

// hostname is what instances see instead of the machine's own.
const hostname = "covey"

// add makes f a descriptor of the stage and returns its number there.
func (p *plan) add(f *os.File) int {
	p.files = append(p.files, f)
	return len(p.files) - 1
}

// own is add for a file that is closed with the plan.
func (p *plan) own(f *os.File) int {
	p.owned = append(p.owned, f)
	return p.add(f)
}

func (p *plan) close() {
	for _, f := range p.owned {
		_ = f.Close()
	}
	p.owned = nil
}

// descriptors lays out the stage's descriptors: the script, stdout and stderr,
// the instance's files, the code, then what serves the preparation only.
func (p *plan) descriptors(null, report, exit *os.File) error {
	p.files = make([]*os.File, 3, 16+len(p.spec.Files)) // 0 is filled in by start
	p.files[1], p.files[2] = null, null
	if p.spec.Stdout != nil {
		p.files[1] = p.spec.Stdout
	}
	if p.spec.Stderr != nil {
		p.files[2] = p.spec.Stderr
	}
	p.files = append(p.files, p.spec.Files...)
	p.first = len(p.files)
	if p.spec.Code != nil {
		p.code = p.add(p.spec.Code)
		keep, err := isScript(p.spec.Code)
		if err != nil {
			return err
		}
		if keep {
			p.first++
		}
	}
	p.null, p.report, p.exit = p.add(null), p.add(report), -1
	if exit != nil {
		p.exit = p.add(exit)
	}
	return nil
}

// write makes the script.
func (p *plan) write() error {
	s := newScript()
	p.script = s
	if p.mode.namespaces {
		p.guard()
	}
	if p.cgroup != nil && p.cgroup.version == 1 {
		for _, f := range p.cgroup.join {
			s.sys("join cgroup", unix.SYS_WRITE, uintptr(p.add(f)), s.str("0"), 1)
		}
	}
	if p.mode.namespaces {
		if err := p.namespaces(); err != nil {
			return err
		}
	}
	p.preferVictim()
	s.limits(p.spec.NoFile, p.spec.Pids, p.mode.uids)
	if p.mode.namespaces {
		p.fork()
	}
	return p.become()
}

// guard makes the stage die with the daemon. If the daemon died before the call,
// nobody reads the pipe any more and the write fails, which ends the stage too.
func (p *plan) guard() {
	s := p.script
	s.sys("set death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	s.sys("find the daemon alive", unix.SYS_WRITE, uintptr(p.exit), s.str("S"), 1)
}

// namespaces adds what an instance has for itself: network, /proc, /tmp and the
// private directory.
func (p *plan) namespaces() error {
	s := p.script
	switch {
	case p.network != nil:
		s.sys("join network namespace", unix.SYS_SETNS, uintptr(p.add(p.network)), unix.CLONE_NEWNET)
	case p.mode.userns && !p.spec.Network:
		p.loopback()
	}
	if p.mode.template {
		if err := p.attach(); err != nil {
			return err
		}
	} else {
		p.buildRoot()
	}
	s.sys("set host name", unix.SYS_SETHOSTNAME, s.str(hostname), uintptr(len(hostname)))
	return nil
}

// loopback sets lo up in the network namespace that came with the user's. Nothing
// else opens descriptors here, so the socket's number is known: the next one.
func (p *plan) loopback() {
	s := p.script
	socket := uintptr(p.next())
	request := make([]byte, 40) // struct ifreq
	copy(request, "lo")
	request[16] = unix.IFF_UP | unix.IFF_RUNNING
	s.sys("open socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0)
	s.sys("set loopback up", unix.SYS_IOCTL, socket, unix.SIOCSIFFLAGS, s.put(request))
	s.sys("close socket", unix.SYS_CLOSE, socket)
}

// next is replaced by the number of the first free descriptor when all are known.
func (p *plan) next() int { return nextDescriptor }

// nextDescriptor stands for the first free descriptor of the stage, whose number
// is known only after the last add; seal replaces it.
const nextDescriptor = 1<<31 - 1

// seal fills in the number that next stood for.
func (p *plan) seal() {
	for i := range p.script.steps {
		for k, arg := range p.script.steps[i].args {
			if arg == nextDescriptor {
				p.script.steps[i].args[k] = uintptr(len(p.files))
			}
		}
	}
}

// preferVictim makes the kernel choose an instance before the daemon when the
// whole machine is out of memory.
func (p *plan) preferVictim() {
	s := p.script
	open := s.sys("open oom_score_adj", unix.SYS_OPENAT, atCWD, s.str("/proc/self/oom_score_adj"), unix.O_WRONLY, 0)
	open.optional = true
	s.sys("set oom_score_adj", unix.SYS_WRITE, uintptr(p.next()), s.str("500"), 3).optional = true
	s.sys("close oom_score_adj", unix.SYS_CLOSE, uintptr(p.next())).optional = true
}

// fork splits the stage into process 1 and the process that becomes the code.
// Process 1 keeps one descriptor, on which it tells how process 2 ended; then it
// ends too, and the kernel ends whatever else is in the pid namespace.
func (p *plan) fork() {
	s := p.script
	// Process 1 is not to be traced or read by what it guards, whatever its user.
	s.sys("hide process 1", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	fork := s.sys("fork", unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0)
	at := len(s.steps) - 1
	fork.want = 0

	s.sys("keep exit pipe", unix.SYS_DUP3, uintptr(p.exit), 0, 0)
	s.sys("close the rest", unix.SYS_CLOSE_RANGE, 1, 1<<32-1, 0)
	status := s.words(0)
	wait := s.next()
	reap := s.sys("reap", unix.SYS_WAIT4, ^uintptr(0), status, unix.WALL, 0)
	reap.want = 2 // the first process made here is always number 2
	reaped := len(s.steps) - 1
	again := s.sys("go on reaping", unix.SYS_GETPID)
	again.want, again.target = 1, wait // always true: an unconditional jump
	s.steps[reaped].target = s.next()
	s.sys("tell exit status", unix.SYS_WRITE, 0, status, 4).optional = true
	s.sys("exit", unix.SYS_EXIT_GROUP, 0)

	s.steps[at].target = s.next()
}

// become turns the calling process into the instance's code.
func (p *plan) become() error {
	s := p.script
	s.sys("start session", unix.SYS_SETSID)
	s.sys("set stdin", unix.SYS_DUP3, uintptr(p.null), 0, 0)
	s.sys("set umask", unix.SYS_UMASK, 0o022)
	s.defaultSignals()
	if p.mode.uids {
		s.identity(p.uid)
	}
	if p.mode.userns {
		s.dropCapabilities()
	}
	s.sys("enter private directory", unix.SYS_CHDIR, s.str(p.dir))
	if !p.mode.namespaces {
		// After the change of user, which clears it. The greeting below fails when
		// the daemon is gone already.
		s.sys("set death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	}
	s.noNewPrivs()
	if p.mode.landlock {
		rules, err := p.landlockRules().ruleset()
		if err != nil {
			return err
		}
		s.landlock(p.own(rules))
	}
	inherited := p.first
	if p.park {
		inherited = 3 // the order says which more
	}
	s.sys("mark descriptors", unix.SYS_CLOSE_RANGE, uintptr(inherited), 1<<32-1, unix.CLOSE_RANGE_CLOEXEC)
	if p.mode.seccomp {
		s.filter(p.filter)
	}
	// The greeting carries the sender's process id, as the daemon sees it.
	s.sys("greet the daemon", unix.SYS_WRITE, uintptr(p.report), s.str("H"), 1)
	if p.park {
		p.awaitOrder()
	} else {
		p.exec()
	}
	return nil
}

// exec adds the last step, which is the first of the instance's code.
func (p *plan) exec() {
	s := p.script
	if p.probe {
		s.sys("exit", unix.SYS_EXIT_GROUP, 0)
		return
	}
	args := p.spec.Args
	if len(args) == 0 {
		args = []string{p.spec.Instance}
	}
	if p.spec.Code != nil {
		s.sys("exec", unix.SYS_EXECVEAT, uintptr(p.code), s.str(""), s.strs(args), s.strs(p.env), unix.AT_EMPTY_PATH)
	} else {
		s.sys("exec", unix.SYS_EXECVE, s.str(p.spec.Path), s.strs(args), s.strs(p.env))
	}
}

// isScript tells whether a program begins with "#!": its interpreter opens it by
// the descriptor's name, so that descriptor has to survive. Programs never see it.
func isScript(code *os.File) (bool, error) {
	var magic [2]byte
	if _, err := code.ReadAt(magic[:], 0); err != nil {
		return false, fmt.Errorf("read code: %w", err)
	}
	return magic == [2]byte{'#', '!'}, nil
}

// landlockRules lists what an instance may touch when the whole file system is
// still in sight.
func (p *plan) landlockRules() landlockRules {
	r := landlockRules{abi: landlockABI(), isolated: true, write: []string{p.dir}}
	r.read = append(r.read, shownDirs...)
	r.read = append(r.read, shownFiles...)
	r.read = append(r.read, "/proc", "/sys/kernel/mm/transparent_hugepage")
	r.read = append(r.read, p.spec.ReadPaths...)
	r.write = append(r.write, shownNodes...)
	r.write = append(r.write, p.spec.WritePaths...)
	if p.spec.Path != "" {
		r.read = append(r.read, p.spec.Path)
	}
	if p.spec.Code != nil {
		// Executing a descriptor opens the file once more, by the rules.
		r.read = append(r.read, fmt.Sprintf("/proc/self/fd/%d", p.spec.Code.Fd()))
	}
	return r
}

// environment completes the instance's environment.
func (p *plan) environment(marker string) {
	has := func(name string) bool {
		for _, pair := range p.spec.Env {
			if strings.HasPrefix(pair, name+"=") {
				return true
			}
		}
		return false
	}
	p.env = append(p.env, p.spec.Env...)
	if !has("HOME") {
		p.env = append(p.env, "HOME="+p.dir)
	}
	if !has("TMPDIR") {
		tmp := "/tmp"
		if !p.mode.namespaces {
			tmp = filepath.Join(p.dir, "tmp")
		}
		p.env = append(p.env, "TMPDIR="+tmp)
	}
	if !p.mode.namespaces {
		p.env = append(p.env, marker)
	}
}
