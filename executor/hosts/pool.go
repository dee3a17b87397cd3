package hosts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/executor/sandbox"
)

// Config is what a Pool is given.
type Config struct {
	// DataDir is the node's data directory; unpacked code lies in DataDir/trees.
	// Required, absolute.
	DataDir string
	// Sandbox starts the processes. Required.
	Sandbox *sandbox.Sandbox
	// Code opens the archive with the given digest, verified. Required.
	Code func(ctx context.Context, digest string) (*os.File, error)
	// Runtimes are what this node hosts; see Detect.
	Runtimes []Runtime
	Logger   zerolog.Logger
}

// Validate reports everything that is wrong with the configuration at once.
func (c *Config) Validate() error {
	var errs []error
	if !filepath.IsAbs(c.DataDir) {
		errs = append(errs, fmt.Errorf("DataDir %q is not an absolute path", c.DataDir))
	}
	if c.Sandbox == nil || c.Code == nil {
		errs = append(errs, errors.New("the fields Sandbox and Code must be set"))
	}
	for _, rt := range c.Runtimes {
		if rt.Name == "" || (rt.Program == nil) == (rt.Path == "") {
			errs = append(errs, fmt.Errorf("runtime %q needs a name and one of Program and Path", rt.Name))
		}
	}
	return errors.Join(errs...)
}

// Pool has processes and code ready. It is safe for concurrent use.
type Pool struct {
	cfg    Config
	log    zerolog.Logger
	trees  *trees
	shelfs map[string]*shelf // by runtime; not changed after New
	serial atomic.Uint64
	work   sync.WaitGroup // blanks being ended

	ctx    context.Context // ended when Run ends; the parent of preparations
	cancel context.CancelFunc
}

// New checks the configuration and empties the folder of unpacked code. It starts
// nothing.
func New(cfg Config) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("runtimes configuration: %w", err)
	}
	p := &Pool{
		cfg: cfg, log: cfg.Logger.With().Str("component", "hosts").Logger(), shelfs: map[string]*shelf{},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	for i := range cfg.Runtimes {
		rt := &cfg.Runtimes[i]
		p.shelfs[rt.Name] = &shelf{pool: p, rt: rt, wake: make(chan struct{}, 1)}
	}
	var err error
	p.trees, err = newTrees(filepath.Join(cfg.DataDir, "trees"), cfg.Code, p.log)
	return p, err
}

// Run keeps blanks of the wanted runtimes waiting until ctx ends, and returns when
// none is left. Hosts that were taken are their takers'.
func (p *Pool) Run(ctx context.Context) {
	var keepers sync.WaitGroup
	if p.cfg.Sandbox.Shows() { // else a process must know its code when it starts
		for _, s := range p.shelfs {
			keepers.Go(func() { s.keep(ctx) })
		}
	}
	<-ctx.Done()
	keepers.Wait()
	p.cancel()
	p.work.Wait()
	p.trees.work.Wait()
}

// Want says which runtimes are in use, so that processes of these, and of no others,
// wait.
func (p *Pool) Want(runtimes map[string]bool) {
	for name, s := range p.shelfs {
		s.want(runtimes[name])
	}
}

// Has tells whether this node hosts the runtime.
func (p *Pool) Has(runtime string) bool { return p.shelfs[runtime] != nil }

// Host is a process that sees the code of the function that it is to become, but has
// not been told yet.
type Host struct {
	Process *sandbox.Process
	// Conn is the daemon's end of the data plane. Stdout and Stderr are the read ends
	// of what the process prints. The taker closes all three.
	Conn           *net.UnixConn
	Stdout, Stderr *os.File
	// Code and Cache are paths as the process sees them; Cache may be empty.
	Code, Cache string
	// Fetched is how long it took to have the code, Spawned to have the process.
	Fetched, Spawned time.Duration

	release func()
}

// Release gives the code back once the process has ended.
func (h *Host) Release() { h.release() }

// maxDead bounds how many blanks that died while they waited one Take discovers.
const maxDead = 3

// Take returns a process of the runtime that sees the code with the given digest and
// is limited to memory bytes: one that was waiting, or a new one. After an error
// nothing is left. It blocks while code is fetched and unpacked, and prepared for the
// handler where the runtime compiles.
func (p *Pool) Take(ctx context.Context, runtime, digest, handler string, memory int64) (*Host, error) {
	s := p.shelfs[runtime]
	if s == nil {
		return nil, fmt.Errorf("%w: %q", ErrRuntime, runtime)
	}
	begun := time.Now()
	t, err := p.trees.hold(ctx, digest)
	if err != nil {
		return nil, err
	}
	if s.rt.Compiles {
		if err := p.prepared(ctx, s.rt, t, handler); err != nil {
			p.trees.release(t)
			return nil, err
		}
	}
	fetched := time.Since(begun)
	var b *blank
	for range maxDead {
		if b, err = p.blankFor(ctx, s, t); err != nil {
			break
		}
		if err = p.furnish(b, t, runtime, memory); err == nil {
			break
		}
		b.discard()
		if !errors.Is(err, os.ErrProcessDone) {
			break
		}
	}
	if err != nil {
		p.trees.release(t)
		return nil, err
	}
	h := &Host{
		Process: b.process, Conn: b.conn, Stdout: b.stdout, Stderr: b.stderr, Code: t.path,
		Fetched: fetched, Spawned: time.Since(begun) - fetched, release: func() { p.trees.release(t) },
	}
	if p.cfg.Sandbox.Shows() {
		h.Code = sandbox.TaskDir
		if p.trees.cache(t, runtime) != "" {
			h.Cache = sandbox.CacheDir
		}
	}
	return h, nil
}

// blankFor returns a process for the tree: a waiting one where it can be shown the
// code, else a new one that is started with it.
func (p *Pool) blankFor(ctx context.Context, s *shelf, t *tree) (*blank, error) {
	if !p.cfg.Sandbox.Shows() {
		return p.start(ctx, s.rt, t.path)
	}
	if b := s.take(); b != nil {
		return b, nil
	}
	return p.start(ctx, s.rt)
}

// furnish gives a process what depends on the function.
func (p *Pool) furnish(b *blank, t *tree, runtime string, memory int64) error {
	if err := b.process.Limit(memory); err != nil {
		return err
	}
	if !p.cfg.Sandbox.Shows() {
		return nil
	}
	places := []sandbox.Place{{Source: t.path, Target: sandbox.TaskDir}}
	// What AWS Lambda's layers would have put there.
	if opt := filepath.Join(t.path, "opt"); isDir(opt) {
		places = append(places, sandbox.Place{Source: opt, Target: sandbox.OptDir})
	}
	if cache := p.trees.cache(t, runtime); cache != "" {
		places = append(places, sandbox.Place{Source: cache, Target: sandbox.CacheDir})
	}
	return b.process.Show(places...)
}

// isDir tells whether path is a directory, and not a link to one.
func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}
