//go:build linux && (amd64 || arm64)

package sandbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// Sandbox starts instances, confined as well as this machine can. It is safe for
// concurrent use.
type Sandbox struct {
	cfg    Config
	log    zerolog.Logger
	id     string // names the data directory where a path cannot
	runDir string
	mode   mode
	tree   cgroupTree
	layout rootLayout
	filter []unix.SockFilter
	null   *os.File
	launch *launcher
	berths *berths
	slots  *slots
	about  Description

	mu     sync.Mutex
	living map[*Process]struct{}
	closed bool
	// running counts processes with their cleanup; Close waits for it.
	running sync.WaitGroup
}

// New finds out what the machine can do, ends what an earlier daemon of the same
// data directory left behind, and prepares for starts. It tries each combination
// of mechanisms on a real child instead of reading versions, because containers,
// security modules and sysctls switch mechanisms off in ways no version tells.
func New(cfg Config) (*Sandbox, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return newWith(cfg, modesFor(os.Geteuid()))
}

// newWith is New with the modes to try.
func newWith(cfg Config, modes []mode) (*Sandbox, error) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(filepath.Clean(cfg.DataDir)))
	s := &Sandbox{
		cfg: cfg, log: cfg.Logger.With().Str("component", "sandbox").Logger(),
		id: fmt.Sprintf("%016x", h.Sum64()), filter: filterProgram(),
		slots: newSlots(cfg), living: map[*Process]struct{}{},
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, err
	}
	s.endLeftovers()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s.null = null
	stage, err := stageELF()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	var noCgroups error
	if s.tree, noCgroups = openCgroups(cfg.CgroupParent, "covey-"+s.id); noCgroups != nil {
		s.warn("memory is watched, not limited: %v", noCgroups)
	}
	warnings := len(s.about.Warnings)
	var failed []error
	for _, m := range modes {
		err := s.tryMode(m, stage)
		if err == nil {
			err = s.saveLeftovers()
		}
		if err == nil {
			s.describe(failed)
			return s, nil
		}
		s.about.Warnings = s.about.Warnings[:warnings]
		failed = append(failed, fmt.Errorf("%s: %w", m.name, err))
		s.dropMode()
	}
	return nil, errors.Join(ErrUnsupported, errors.Join(failed...), s.Close())
}

// tryMode prepares everything for m and starts a child in it that does nothing.
func (s *Sandbox) tryMode(m mode, stage []byte) error {
	s.mode = m
	if err := s.makeRunDir(stage); err != nil {
		return err
	}
	s.layout = hostLayout(s.runDir)
	scratch := filepath.Join(s.runDir, rootDir)
	launch, err := startLauncher(func() error {
		if m.template {
			return enterTemplate(&s.layout, scratch, stage)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.launch = launch
	// In a user namespace the clone call makes the network namespace too.
	s.berths, err = startBerths(s, m.namespaces && !m.userns)
	if err != nil && m.namespaces && !m.userns {
		s.warn("functions share the host's network: %v", err)
		s.berths, err = startBerths(s, false)
	}
	if err != nil {
		return err
	}
	p, err := s.start(&Spec{Instance: "probe"}, true)
	if err != nil {
		return err
	}
	<-p.gone
	if st := p.State(); st.Code != 0 {
		return fmt.Errorf("probe ended with code %d, signal %v", st.Code, st.Signal)
	}
	return nil
}

// dropMode undoes tryMode.
func (s *Sandbox) dropMode() {
	if s.berths != nil {
		s.berths.close()
		s.berths = nil
	}
	if s.launch != nil {
		s.launch.close()
		s.launch = nil
	}
	s.removeRunDir()
}

// Close ends every instance, waits until nothing of them is left, and gives back
// what New prepared. Starts that follow return ErrClosed.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for p := range s.living {
		p.kill()
	}
	s.mu.Unlock()
	s.running.Wait()
	s.dropMode()
	s.tree.remove()
	s.dropLeftovers()
	return s.null.Close()
}

// Start starts an instance. It returns once the code has been executed; a
// *SetupError says what the kernel refused before that. The context only bounds
// the starting: the instance lives on until it exits or Kill ends it.
func (s *Sandbox) Start(ctx context.Context, spec Spec) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.complete(&spec); err != nil {
		return nil, err
	}
	if s.about.Level < spec.MinLevel {
		return nil, fmt.Errorf("%w: %v is demanded, this node has %v", ErrLevel, spec.MinLevel, s.about.Level)
	}
	p, err := s.start(&spec, false)
	if err != nil {
		return nil, fmt.Errorf("start instance %s: %w", spec.Instance, err)
	}
	return p, nil
}

// complete checks a spec and fills in the defaults.
func (s *Sandbox) complete(spec *Spec) error {
	var errs []error
	if spec.Instance == "" || strings.Trim(spec.Instance, instanceLetters) != "" {
		errs = append(errs, fmt.Errorf("instance name %q must be letters, digits, '-' and '_'", spec.Instance))
	}
	if (spec.Code == nil) == (spec.Path == "") {
		errs = append(errs, errors.New("exactly one of Code and Path must be set"))
	}
	if spec.Path != "" && !filepath.IsAbs(spec.Path) {
		errs = append(errs, fmt.Errorf("path %q is not absolute", spec.Path))
	}
	for _, path := range spec.ReadPaths {
		if path != filepath.Clean(path) || !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("read path %q is not a clean absolute path", path))
		}
		// A path inside the data directory shows only itself, and is the caller's
		// choice; one above would show everything.
		if rel, err := filepath.Rel(path, s.cfg.DataDir); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			errs = append(errs, fmt.Errorf("read path %q contains the data directory", path))
		}
	}
	for _, text := range append(append([]string{spec.Path}, spec.Args...), spec.Env...) {
		if strings.IndexByte(text, 0) >= 0 {
			errs = append(errs, errors.New("zero byte in the path, the arguments or the environment"))
			break
		}
	}
	if spec.Memory < 0 || spec.Pids < 0 || spec.NoFile < 0 || spec.TmpSize < 0 {
		errs = append(errs, errors.New("negative limit"))
	}
	return errors.Join(errs...)
}

const instanceLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// Defaults of Spec.
const (
	defaultPids   = 256
	defaultNoFile = 1024
	defaultTmp    = 512 << 20
)

// start takes a berth and starts an instance in it.
func (s *Sandbox) start(spec *Spec, probe bool) (*Process, error) {
	orDefault(&spec.Pids, defaultPids)
	orDefault(&spec.NoFile, defaultNoFile)
	orDefault(&spec.TmpSize, defaultTmp)
	if err := s.enter(); err != nil {
		return nil, err
	}
	b, err := s.berths.take()
	if err != nil {
		s.running.Done()
		return nil, err
	}
	return s.startIn(b, spec, probe)
}

// startIn runs the stage. The Process owns the berth afterwards; on failure the
// berth is discarded here.
func (s *Sandbox) startIn(b *berth, spec *Spec, probe bool) (_ *Process, err error) {
	p := &Process{sandbox: s, berth: b, done: make(chan struct{}), gone: make(chan struct{}), exit: -1}
	defer func() {
		if err != nil {
			p.release()
			s.running.Done()
		}
	}()
	if err := b.cgroup.limit(spec.Memory, spec.Pids); err != nil {
		return nil, err
	}
	pl := &plan{
		mode: s.mode, spec: spec, dir: b.dir, uid: s.slots.uid(b.slot), layout: &s.layout,
		filter: s.filter, probe: probe, cgroup: b.cgroup,
	}
	defer pl.close()
	if !s.mode.template {
		pl.root = filepath.Join(s.runDir, rootDir)
	}
	if !spec.Network {
		pl.network = b.net
	}
	if err := s.run(p, pl); err != nil {
		return nil, err
	}
	return p, nil
}

// enter counts a process that is about to start, unless the sandbox is closed.
func (s *Sandbox) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.running.Add(1)
	return nil
}

// report is one message of the stage: the greeting, or a failure.
const failureSize = 16

// run writes the script, forks the stage, and waits for the code to be executed.
func (s *Sandbox) run(p *Process, pl *plan) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "report")
	pl.owned = append(pl.owned, theirs)
	// Credentials of the sender come with each message: that is how the daemon
	// learns the process id of the code, which sits in a namespace.
	if err := unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	timeout := unix.Timeval{Sec: setupSeconds}
	if err := unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	var exit *os.File
	if s.mode.namespaces {
		var ends [2]int
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			return os.NewSyscallError("pipe2", err)
		}
		p.exit = ends[0]
		exit = os.NewFile(uintptr(ends[1]), "exit")
		pl.owned = append(pl.owned, exit)
	}
	pl.environment(s.mark(p))
	if err := pl.descriptors(s.null, theirs, exit); err != nil {
		return err
	}
	if err := pl.write(); err != nil {
		return err
	}
	pl.seal()
	if err := s.fork(p, pl); err != nil {
		return err
	}
	// The stage has its copies; with ours gone, its death ends the wait below.
	pl.close()
	p.berth.cgroup.closeJoin()
	err = p.await(pair[0], pl.script)
	s.mu.Lock()
	s.living[p] = struct{}{}
	if s.closed {
		p.kill()
	}
	s.mu.Unlock()
	if err != nil {
		p.kill()
		p.reap()
		return err
	}
	s.watch(p)
	return nil
}

// setupSeconds bounds the time from fork to exec. Only a machine that swaps
// itself to death needs more.
const setupSeconds = 20

// watch ends when the process and everything of it is gone.
func (s *Sandbox) watch(p *Process) {
	go func() { // counted by running
		defer s.running.Done()
		p.waitExit()
		p.reap()
		close(p.done)
		p.release()
		close(p.gone)
	}()
}

// await reads what the stage reports until the code runs.
func (p *Process) await(fd int, script *script) error {
	var message [failureSize]byte
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		n, oobn, _, _, err := unix.Recvmsg(fd, message[:], oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for the stage: %w", err)
		case n == failureSize:
			return script.failure(message[:])
		case n == 0 && p.pid == 0:
			return errors.New("the stage died before the code was executed")
		case n == 0:
			return nil
		default:
			p.pid = senderPid(oob[:oobn])
		}
	}
}

// senderPid returns the process id in the credentials of a message, 0 if none.
func senderPid(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for i := range messages {
		if messages[i].Header.Type == unix.SCM_CREDENTIALS {
			return int(int32(binary.NativeEndian.Uint32(messages[i].Data)))
		}
	}
	return 0
}

func orDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
