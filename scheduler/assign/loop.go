package assign

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

const (
	// tick is how often the loop looks for nodes that fell silent.
	tick = time.Second
	// settle lets a burst of changes (a deploy and its alias, nodes of a rack
	// that join) become one plan.
	settle = 50 * time.Millisecond
	// proposeTimeout is above an election; a proposal that is lost is planned
	// again.
	proposeTimeout = 5 * time.Second
	// backoffMax bounds the pause after proposals that fail in a row.
	backoffMax = 10 * time.Second
)

// Cluster is what the loop needs of the control plane. All of it is safe for
// concurrent use.
type Cluster interface {
	View() *state.View
	// Changed returns a channel that closes when a newer view appears.
	Changed() <-chan struct{}
	Propose(ctx context.Context, cmd *clusterpb.Command) (*clusterpb.Result, error)
}

// Config has no optional fields but Settled and Registerer.
type Config struct {
	Cluster Cluster
	// Self is the node that runs the loop, which is never silent to itself.
	Self state.NodeID
	// Contacts returns when this node itself last heard from each member, as
	// time.Now of this process. Members may be missing. It must not block.
	Contacts func() map[state.NodeID]time.Time
	// Settled reports that a node itself gave up what is withheld from it of a
	// function's reserved concurrency since an index. With nil only time settles that.
	Settled func(fn state.FunctionKey, node state.NodeID, since state.Index) bool
	Logger  zerolog.Logger
	// Registerer gets the loop's metrics; nil keeps them to itself.
	Registerer prometheus.Registerer
}

// Validate reports every missing field.
func (c Config) Validate() error {
	var errs []error
	if c.Cluster == nil {
		errs = append(errs, errors.New("missing Cluster"))
	}
	if c.Self == "" {
		errs = append(errs, errors.New("missing Self"))
	}
	if c.Contacts == nil {
		errs = append(errs, errors.New("missing Contacts"))
	}
	return errors.Join(errs...)
}

// Loop plans and proposes while this node leads.
type Loop struct {
	cfg     Config
	log     zerolog.Logger
	metrics *metrics
}

// New checks the configuration. It starts nothing.
func New(cfg Config) (*Loop, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("assignment loop: %w", err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("assignment loop: register metrics: %w", err)
	}
	if cfg.Settled == nil {
		cfg.Settled = func(state.FunctionKey, state.NodeID, state.Index) bool { return false }
	}
	return &Loop{cfg: cfg, log: cfg.Logger.With().Str("component", "assign").Logger(), metrics: m}, nil
}

// Run plans until the context ends, which is when leadership does. It may run
// again after it returned; each run gives every member 15 s to be heard from, as
// a new leader has heard from nobody yet.
func (l *Loop) Run(ctx context.Context) {
	r := &run{Loop: l, first: make(map[state.NodeID]time.Time), waits: waits{said: l.cfg.Settled}}
	timer := time.NewTimer(tick)
	defer timer.Stop()
	failures := 0
	for ctx.Err() == nil {
		// The channel is taken before the view, or a view between would be missed.
		changed, pause := l.cfg.Cluster.Changed(), tick
		began := time.Now()
		err := r.once(ctx)
		// A plan of a large cluster costs tens of milliseconds: under constant
		// writes planning takes a tenth of a core, not all of it.
		rest := min(max(settle, 9*time.Since(began)), tick)
		switch {
		case err == nil:
			failures = 0
		case ctx.Err() != nil:
			return
		default:
			failures++
			changed, pause = nil, backoff(failures)
			if failures == 1 {
				l.log.Warn().Err(err).Msg("assignments were not written, trying again")
			}
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			continue
		case <-changed:
		}
		if !sleep(ctx, rest) {
			return
		}
	}
}

// errSkipped means that the state moved between plan and apply.
var errSkipped = errors.New("some assignments no longer held when they were applied")

// run is one term of leadership. It belongs to one goroutine.
type run struct {
	*Loop
	// first holds when this run saw each member at first.
	first map[state.NodeID]time.Time
	waits waits
	// planned and silent are what the last finished plan was made of; while
	// neither differs there is nothing to plan.
	planned *state.View
	silent  []state.NodeID
	// windowed says that the plan holds for its minute only: windows open and close
	// with the minute.
	windowed bool
	minute   time.Time
}

// once plans, if anything is new, and proposes.
func (r *run) once(ctx context.Context) error {
	view, now := r.cfg.Cluster.View(), time.Now()
	live := r.liveness(view, now)
	silent := silentOf(view, live, now)
	due := r.waits.observe(view, now)
	minute := now.Truncate(time.Minute)
	turned := r.windowed && !minute.Equal(r.minute)
	if view == r.planned && slices.Equal(silent, r.silent) && !due && !turned {
		return nil
	}
	changes := Plan(view, live, now)
	reservations := PlanReservations(view, live, now, func(res *state.Reservation, p state.ReservedPlace) bool {
		return r.waits.settled(res, p, now)
	})
	r.metrics.plans.Inc()
	for _, cmd := range append(Commands(changes), ReservationCommands(reservations)...) {
		if err := r.propose(ctx, cmd); err != nil {
			r.metrics.failures.Inc()
			return err
		}
	}
	if len(changes) > 0 {
		r.metrics.changes.Add(float64(len(changes)))
		r.log.Info().Int("changes", len(changes)).Uint64("index", uint64(view.Index())).Msg("assignments changed")
	}
	if len(reservations) > 0 {
		r.metrics.shares.Add(float64(len(reservations)))
		r.log.Info().Int("changes", len(reservations)).Uint64("index", uint64(view.Index())).Msg("shares of reserved concurrency changed")
	}
	r.planned, r.silent, r.windowed, r.minute = view, silent, windowed(view), minute
	return nil
}

// silentOf lists the silent members in the view's order.
func silentOf(view *state.View, live map[state.NodeID]Liveness, now time.Time) []state.NodeID {
	var ids []state.NodeID
	for _, m := range view.Members() {
		if now.Sub(live[m.ID].LastContact) >= SilentAfter {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

func (l *Loop) propose(ctx context.Context, cmd *clusterpb.Command) error {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	res, err := l.cfg.Cluster.Propose(ctx, cmd)
	if err != nil {
		return fmt.Errorf("propose assignments: %w", err)
	}
	if err := state.Refused(res); err != nil {
		return fmt.Errorf("propose assignments: %w", err)
	}
	if skipped := res.GetSkipped(); len(skipped) > 0 {
		return fmt.Errorf("%w: %d, the first is %s", errSkipped, len(skipped), skipped[0])
	}
	return nil
}

// liveness joins what was heard with when this run first saw a member, and
// forgets members that are gone.
func (r *run) liveness(view *state.View, now time.Time) map[state.NodeID]Liveness {
	contacts := r.cfg.Contacts()
	live := make(map[state.NodeID]Liveness, view.MemberCount())
	for _, m := range view.Members() {
		if _, ok := r.first[m.ID]; !ok {
			r.first[m.ID] = now
		}
		last := r.first[m.ID]
		if at := contacts[m.ID]; at.After(last) {
			last = at
		}
		if m.ID == r.cfg.Self {
			last = now
		}
		live[m.ID] = Liveness{LastContact: last}
	}
	for id := range r.first {
		if _, ok := live[id]; !ok {
			delete(r.first, id)
		}
	}
	return live
}

// backoff doubles from a fifth of a second and varies by half.
func backoff(failures int) time.Duration {
	d := min(backoffMax, tick/5<<min(failures-1, 10))
	return d/2 + rand.N(d/2)
}

// sleep waits and reports false if the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
