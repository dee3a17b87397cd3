package scheduler

import (
	"errors"
	"fmt"
	"time"

	"github.com/covey-dev/covey/cluster/state"
)

// Config is what a Scheduler needs. Only Self has no default.
type Config struct {
	// Self is this node.
	Self state.NodeID

	// Seed makes the random choices repeatable, for the simulator and tests. Nodes
	// must differ in it, or they herd; zero takes one from Self.
	Seed uint64

	// Forwards is how often one call may be sent on. Default 2. With 1 a full node
	// refuses although others have room; more than 2 costs more than it finds.
	Forwards int

	// Epsilon bounds a node's load by (1+Epsilon) times the mean before the search
	// widens. Default 0.25. Lower spreads functions over more nodes, hence more
	// cold starts; higher lets hot spots stand.
	Epsilon float64

	// Noise is the random part of each estimate, against herding. Default 0.1.
	Noise float64

	// TokenTTL is how long an idle token is believed. Default 1 s.
	TokenTTL time.Duration

	// HopCost is what sending a call to another node adds. Default 100 µs.
	HopCost time.Duration

	// Rings shares rings among schedulers of one process. It is there for simulations
	// of many nodes; nil builds an own one.
	Rings *Rings

	// FunctionsMax bounds the versions remembered; the longest unused are forgotten
	// beyond it. Default 65,536.
	FunctionsMax int
}

// DefaultConfig returns the defaults without Self.
func DefaultConfig() Config {
	return Config{
		Forwards:     2,
		Epsilon:      0.25,
		Noise:        0.1,
		TokenTTL:     time.Second,
		HopCost:      100 * time.Microsecond,
		FunctionsMax: 1 << 16,
	}
}

// Validate reports every field that is missing or out of range.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Self != "", "Self: empty")
	check(c.Forwards >= 0, "Forwards: %d is negative", c.Forwards)
	check(c.Epsilon > 0, "Epsilon: %v is not positive", c.Epsilon)
	check(c.Noise >= 0 && c.Noise < 1, "Noise: %v is not in [0,1)", c.Noise)
	check(c.TokenTTL > 0, "TokenTTL: %v is not positive", c.TokenTTL)
	check(c.HopCost >= 0, "HopCost: %v is negative", c.HopCost)
	check(c.FunctionsMax >= shardCount, "FunctionsMax: %d is under %d", c.FunctionsMax, shardCount)
	return errors.Join(errs...)
}
