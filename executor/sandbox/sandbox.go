//go:build linux && (amd64 || arm64)

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
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
	lock   *os.File // of runDir
	mode   mode
	tree   cgroupTree
	layout rootLayout
	filter []unix.SockFilter
	null   *os.File
	launch *launcher
	visit  *visitor // with a template only
	berths *berths
	slots  *slots
	about  Description

	mu     sync.Mutex
	living map[*Process]struct{}
	closed bool
	// running counts starts, and processes with their cleanup; Close waits for it.
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
	if err := s.endLeftovers(); err != nil {
		return nil, err
	}
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
	s.layout = hostLayout(s.runDir, s.cfg.Links)
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
	if m.template {
		if s.visit, err = startVisitor(); err != nil {
			return err
		}
	}
	// In a user namespace the clone call makes the network namespace too.
	err = s.startBerths(m.namespaces && !m.userns)
	if err != nil && m.namespaces && !m.userns {
		s.warn("functions share the host's network: %v", err)
		err = s.startBerths(false)
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
	if s.visit != nil {
		s.visit.close()
		s.visit = nil
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
	if err := s.check(&spec); err != nil {
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

// start takes a berth and starts an instance in it, by the stage that is parked
// there if there is one that will do.
func (s *Sandbox) start(spec *Spec, probe bool) (*Process, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.running.Done()
	setDefaults(spec)
	for {
		b, err := s.berths.take()
		switch {
		case err != nil:
			return nil, err
		case b.parked == nil:
			return s.startIn(b, spec, probe)
		case !parkable(spec):
			// Its directory and cgroup go with it, and a new berth is made.
			b.parked.Kill()
			if b, err = s.berths.makeBare(); err != nil {
				return nil, err
			}
			return s.startIn(b, spec, probe)
		}
		err = s.order(b.parked, spec, probe)
		if !errors.Is(err, errParkedGone) {
			return b.parked, err
		}
	}
}

func (s *Sandbox) newProcess(b *berth) *Process {
	return &Process{sandbox: s, berth: b, done: make(chan struct{}), gone: make(chan struct{}), exit: -1, report: -1}
}

// startIn runs the stage. The Process owns the berth afterwards; on failure the
// berth is discarded here.
func (s *Sandbox) startIn(b *berth, spec *Spec, probe bool) (_ *Process, err error) {
	p := s.newProcess(b)
	defer func() {
		if err != nil {
			p.release()
		}
	}()
	if err := b.cgroup.limit(spec.Memory, spec.Pids); err != nil {
		return nil, err
	}
	for _, path := range spec.WritePaths {
		if err := s.giveAll(path, b); err != nil {
			return nil, err
		}
	}
	pl := s.planFor(b, spec)
	defer pl.close()
	pl.probe = probe
	if err := s.run(p, pl); err != nil {
		return nil, err
	}
	return p, nil
}

// planFor returns what is to be done in a berth, before the first step of it.
func (s *Sandbox) planFor(b *berth, spec *Spec) *plan {
	pl := &plan{
		mode: s.mode, spec: spec, dir: b.dir, uid: s.slots.uid(b.slot), layout: &s.layout,
		filter: s.filter, cgroup: b.cgroup,
	}
	if !s.mode.template {
		pl.root = filepath.Join(s.runDir, rootDir)
	}
	if !spec.Network {
		pl.network = b.net
	}
	return pl
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
