package executor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/executor/hosts"
	"github.com/covey-dev/covey/internal/pace"
	"github.com/covey-dev/covey/plugins"
)

// phase is the life cycle of an Executor.
type phase int32

const (
	phaseNew phase = iota
	phaseRunning
	phaseDraining
	phaseClosed
)

// Executor runs calls in instances on this node. New wires it and Run works; all
// methods are safe for concurrent use, and calls are refused while Run does not.
type Executor struct {
	cfg    Config
	launch launcher
	hosts  *hosts.Pool // nil with a launcher that needs none
	logs   *logStore
	m      *metrics
	log    zerolog.Logger

	phase atomic.Int32

	// pools is replaced whole under mu, so that a warm call finds its pool
	// without a lock.
	pools  atomic.Pointer[map[Key]*pool]
	gates  gates
	mu     sync.Mutex      // guards writes of pools; locked before a pool's own
	ctx    context.Context // ended when Run ends; the parent of starts
	cancel context.CancelFunc
	life   sync.Mutex     // orders the last wg.Go before wg.Wait
	wg     sync.WaitGroup // every goroutine of every instance

	memory *ledger
	turns  turnstile // bounds how many instances use the processor to start
	// pressure measures the processors for the turnstile; nil leaves it at its base.
	pressure func(now time.Time) (float64, bool)
	serial   atomic.Uint64 // numbers the instances of this life of the daemon
	boot     string        // tells instances of different lives apart in the logs

	wake   chan struct{} // tells Run that a pool's warmth or demand has changed
	hunger atomic.Bool   // the Scale hook refused an instance to waiting calls
	// contended is what was logged last; only Run's goroutine touches it.
	contended bool
}

// New checks the configuration and wires an Executor. It starts nothing.
func New(cfg Config) (*Executor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("executor configuration: %w", err)
	}
	dir, err := attachDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	pool, err := hosts.New(hosts.Config{
		DataDir: cfg.DataDir, Sandbox: cfg.Sandbox, Code: cfg.Code, Runtimes: cfg.Runtimes, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	e, err := newExecutor(cfg, &processLauncher{
		sandbox: cfg.Sandbox, code: cfg.Code, hosts: pool, host: cfg.Host, maxBody: cfg.MaxBody, dir: dir,
		health: defaultHealth(), log: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	e.hosts = pool
	e.pressure = pace.NewPressure("/proc", runtime.NumCPU()).Measure
	return e, nil
}

// newExecutor is New with the process starter as a dependency.
func newExecutor(cfg Config, launch launcher) (*Executor, error) {
	logs, err := openLogStore(cfg)
	if err != nil {
		return nil, err
	}
	e := &Executor{
		cfg:    cfg,
		launch: launch,
		logs:   logs,
		log:    cfg.Logger.With().Str("component", "executor").Logger(),
		memory: &ledger{budget: cfg.Memory},
		turns:  turnstile{limit: pace.NewLimit(cfg.Starts)},
		boot:   bootID(),
		wake:   make(chan struct{}, 1),
	}
	e.pools.Store(&map[Key]*pool{})
	e.ctx, e.cancel = context.WithCancel(context.Background())
	if e.m, err = newMetrics(cfg.Registerer, e); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return e, nil
}

// Run reaps, scales and watches the instances until ctx ends. It then ends every
// instance, calls in flight included, and returns when nothing of the executor
// is left. Call Drain first to let calls finish. It can be called once.
func (e *Executor) Run(ctx context.Context) error {
	if !e.phase.CompareAndSwap(int32(phaseNew), int32(phaseRunning)) {
		return errors.New("executor runs already or has been closed")
	}
	var ahead sync.WaitGroup
	if e.hosts != nil {
		ahead.Go(func() { e.hosts.Run(ctx) })
	}
	// The loop ends first: it must not start instances that close would miss.
	e.maintain(ctx)
	e.close()
	ahead.Wait()
	return nil
}

// close ends every instance and waits for all goroutines.
func (e *Executor) close() {
	e.life.Lock()
	e.phase.Store(int32(phaseClosed))
	e.life.Unlock()
	e.cancel()
	for _, p := range *e.pools.Load() {
		p.shut(ErrClosed)
	}
	e.wg.Wait()
	e.announce()
	e.m.unregister()
	if err := e.logs.close(); err != nil {
		e.log.Warn().Err(err).Msg("close logs")
	}
}

// Invoke runs one call of the version that spec describes: in a free instance,
// in one that it starts, or after a wait in the version's queue. It returns when
// the answer (or the first byte of a stream) is here. ctx and the request's
// deadline bound wait and run together; the end of ctx is passed on to the
// instance.
//
// Errors that wrap plugins.ErrNotStarted: the call did not start. Otherwise:
// *plugins.FunctionError from the function, ErrTimeout, *plugins.ExitError when
// the instance died during the call, or ctx's error.
func (e *Executor) Invoke(ctx context.Context, spec *Spec, req *Request) (*Response, error) {
	// A slot can turn out to be dead before its instance's end was noticed.
	// Then the call did not start, and another slot is tried.
	for attempt := 0; ; attempt++ {
		p, err := e.pool(spec)
		if err != nil {
			return nil, err
		}
		entered, err := e.enter(ctx, spec, req)
		if err != nil {
			return nil, err
		}
		g, err := p.acquire(ctx, req.Deadline, req.Wait)
		if err != nil {
			entered.leave()
		}
		if errors.Is(err, errPoolGone) {
			e.dropPools([]*pool{p}) // unless Run did already
			continue
		}
		if err != nil {
			return nil, err
		}
		g.slot.gate = entered // left when the slot is released
		if err := entered.confirm(); err != nil {
			p.release(g.slot, time.Now(), 0)
			return nil, err
		}
		resp, err := g.slot.run(ctx, g, req)
		if err == nil || attempt == maxSlotTries || ctx.Err() != nil || !lostSlot(err) {
			return resp, err
		}
	}
}

// maxSlotTries bounds how many dead instances one call may discover.
const maxSlotTries = 3

// lostSlot tells whether a call failed because its instance was gone already. A
// refusal by a living instance is not that: it would only be refused again.
func lostSlot(err error) bool {
	exit, ok := errors.AsType[*plugins.ExitError](err)
	return ok && errors.Is(err, plugins.ErrNotStarted) && exit != nil
}

// pool returns the pool of the spec's version, made if need be, with the spec as
// its newest.
func (e *Executor) pool(spec *Spec) (*pool, error) {
	switch phase(e.phase.Load()) {
	case phaseRunning:
	case phaseDraining:
		return nil, ErrDraining
	default:
		return nil, ErrClosed
	}
	p := (*e.pools.Load())[spec.Key]
	if p == nil {
		var err error
		if p, err = e.addPool(spec); err != nil {
			return nil, err
		}
	}
	if p.spec.Load() != spec {
		p.adopt(spec)
	}
	return p, nil
}

// addPool makes the pool of a version that is called for the first time. The spec
// is checked here only, not on every call.
func (e *Executor) addPool(spec *Spec) (*pool, error) {
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("spec of %s: %w: %w", spec.Key, err, plugins.ErrNotStarted)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	old := *e.pools.Load()
	if p := old[spec.Key]; p != nil {
		return p, nil
	}
	next := maps.Clone(old)
	p := newPool(e, spec)
	next[spec.Key] = p
	e.pools.Store(&next)
	return p, nil
}

// dropPools forgets the given pools, which are shut.
func (e *Executor) dropPools(gone []*pool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := maps.Clone(*e.pools.Load())
	for _, p := range gone {
		if next[p.key] == p {
			delete(next, p.key)
		}
	}
	e.pools.Store(&next)
	for _, p := range gone {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(next)), p.key.sameFunction) {
			e.m.forget(p.key)
		}
	}
}

// sameFunction tells whether two versions are of one function.
func (k Key) sameFunction(other Key) bool { return k.App == other.App && k.Function == other.Function }

// Reconcile tells which versions are wanted on this node: it keeps the Min of
// each warm, and ends the instances of every version that is not among them,
// each after its last call. It does not wait for either. While Run does not run
// it does nothing.
func (e *Executor) Reconcile(specs []Spec) {
	if phase(e.phase.Load()) != phaseRunning {
		return
	}
	wanted, runtimes := make(map[Key]bool, len(specs)), map[string]bool{}
	for _, s := range specs {
		spec := &s
		wanted[spec.Key] = true
		runtimes[spec.Runtime] = true
		known := (*e.pools.Load())[spec.Key] != nil
		if spec.Min == 0 && !known {
			continue // made by the first call
		}
		p, err := e.pool(spec)
		if err != nil {
			e.log.Warn().Str("function", spec.Key.String()).Err(err).Msg("reconcile version")
			continue
		}
		p.revive()
		p.ensureMin()
	}
	for key, p := range *e.pools.Load() {
		if !wanted[key] {
			p.retire()
		}
	}
	e.serveGates()
	if e.hosts != nil {
		e.hosts.Want(runtimes)
	}
}

// Prepare has everything here that a start of the spec's version needs: its code, and
// what can be computed from the code ahead. It blocks until that is done, which for a
// large WebAssembly module can take a minute.
func (e *Executor) Prepare(ctx context.Context, spec *Spec) error {
	if spec.Runtime != runtimeGo {
		if e.hosts == nil {
			return hosts.ErrRuntime
		}
		return e.hosts.Prepare(ctx, spec.Runtime, spec.Digest, spec.Handler)
	}
	code, err := e.cfg.Code(ctx, spec.Digest)
	if err != nil {
		return err
	}
	return code.Close()
}

// Drain refuses new calls, waits until those in flight and in queues have ended,
// and then ends all instances. When ctx ends first, it ends them with their
// calls and returns ctx's error. It is idempotent, and final.
func (e *Executor) Drain(ctx context.Context) error {
	if !e.phase.CompareAndSwap(int32(phaseRunning), int32(phaseDraining)) &&
		phase(e.phase.Load()) != phaseDraining {
		return nil
	}
	err := poll(ctx, drainPoll, func() bool {
		for _, p := range *e.pools.Load() {
			if l := p.load(); l.InFlight+l.Queued > 0 {
				return false
			}
		}
		return true
	})
	// Nothing is in flight, or no time is left: either way instances may go.
	for _, p := range *e.pools.Load() {
		p.shut(ErrDraining)
	}
	// An instance gives its memory back when the last of it is gone.
	gone := func() bool { return e.memory.inUse() == 0 }
	if err != nil {
		return fmt.Errorf("drain executor: %w", err)
	}
	if err := poll(ctx, drainPoll, gone); err != nil {
		return fmt.Errorf("end instances: %w", err)
	}
	return nil
}

// drainPoll is how often Drain looks; it happens once in the life of a node.
const drainPoll = 5 * time.Millisecond

// poll waits until done returns true, or for the end of ctx.
func poll(ctx context.Context, every time.Duration, done func() bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Load returns how busy a version is here. It takes no lock; the figures are
// each exact but may be a moment apart. A version never called here is all zero.
func (e *Executor) Load(key Key) Load {
	p := (*e.pools.Load())[key]
	if p == nil {
		return Load{}
	}
	l := p.load()
	if p.spec.Load().Reserved {
		g := e.gates.of(e, key)
		l.Entered, l.Waiting = int(g.running.Load()), int(g.waiting.Load())
	}
	return l
}

// spawn runs f on a goroutine that Run waits for. It reports false when the
// executor is closed.
func (e *Executor) spawn(f func()) bool {
	e.life.Lock()
	defer e.life.Unlock()
	if phase(e.phase.Load()) == phaseClosed {
		return false
	}
	e.wg.Go(f)
	return true
}

// poke wakes Run without blocking.
func (e *Executor) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// byKey orders for listings.
func byKey(a, b Key) int {
	return cmp.Or(strings.Compare(a.App, b.App), strings.Compare(a.Function, b.Function), cmp.Compare(a.Version, b.Version))
}

// bootID names this life of an executor, so that its instances differ from those
// of any other in logs and in the sandbox.
func bootID() string { return strconv.FormatUint(rand.Uint64()>>24, 36) }
