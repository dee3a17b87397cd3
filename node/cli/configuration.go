package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/node/cli/manifest"
	"github.com/covey-dev/covey/node/client/wire"
)

// configuration is what the flags say about a function beside its code.
type configuration struct {
	memory       bytesValue
	timeout      time.Duration
	startTimeout time.Duration
	idleTTL      time.Duration
	concurrency  uint32
	queue        int
	minimum      uint32
	maximum      uint32
	reserved     uint32
	provisioned  []string
	rate, burst  uint32
	env          []string
	envFile      string
	labels       []string
	place        []string
	affinity     bool
	idempotent   bool
	minSandbox   string
	description  string
}

func (c *configuration) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var(&c.memory, "memory", "memory limit of one instance (default 256MiB)")
	f.DurationVar(&c.timeout, "timeout", 0, "longest run time of one call (default 30s, at most 15m)")
	f.DurationVar(&c.startTimeout, "start-timeout", 0, "longest start of an instance")
	f.DurationVar(&c.idleTTL, "idle-ttl", 0, "how long an unused instance is kept (default 10m)")
	f.Uint32Var(&c.concurrency, "concurrency", 0, "calls that one instance takes at once (default 1)")
	f.IntVar(&c.queue, "queue", -1, "calls that may wait, 0 for none (default 128)")
	f.Uint32Var(&c.minimum, "min", 0, "instances kept warm in the whole cluster")
	f.Uint32Var(&c.maximum, "max", 0, "instances in the whole cluster, 0 for as many as memory holds")
	f.Uint32Var(&c.reserved, "reserved", 0, "calls of the function that run at once in the whole cluster, 0 for any number")
	f.StringArrayVar(&c.provisioned, "provisioned", nil,
		"COUNT[,from=08:00,to=18:00,days=mon-fri,zone=Europe/Berlin]: instances kept warm at those times, may be repeated")
	f.Uint32Var(&c.rate, "rate", 0, "calls a second that may enter at each node, 0 for any number")
	f.Uint32Var(&c.burst, "burst", 0, "calls that may enter at once, at least --rate")
	f.StringArrayVarP(&c.env, "env", "e", nil, "environment variable NAME=VALUE, may be repeated")
	f.StringVar(&c.envFile, "env-file", "", "file with lines NAME=VALUE")
	f.StringArrayVarP(&c.labels, "label", "l", nil, "label NAME=VALUE, may be repeated")
	f.BoolVar(&c.idempotent, "idempotent", false, "a call whose outcome is unknown may run again")
	f.StringVar(&c.minSandbox, "min-sandbox", "none", "least sandbox level of a node: none, hidden, isolated or limited")
	f.StringSliceVar(&c.place, "place", nil, "run only on nodes with the label NAME=VALUE, may be repeated")
	f.BoolVar(&c.affinity, "affinity", false, "calls with the same key (covey invoke --key) go to the same node")
	f.StringVar(&c.description, "description", "", "a line for people")
	_ = cmd.RegisterFlagCompletionFunc("min-sandbox", cobra.FixedCompletions([]string{"none", "hidden", "isolated", "limited"}, cobra.ShellCompDirectiveNoFileComp))
}

// described is a specification without code, as the manifest has it.
func described(m *manifest.Manifest) wire.FunctionSpec {
	return wire.FunctionSpec{
		MemoryBytes: m.Memory, TimeoutMS: milliseconds(m.Timeout), StartTimeoutMS: milliseconds(m.StartTimeout),
		IdleTTLMS: milliseconds(m.IdleTTL), Concurrency: m.Concurrency, Queue: m.Queue, Min: m.Min, Max: m.Max,
		Reserved: m.Reserved, Provisioned: slices.Clone(m.Provisioned), Rate: m.Rate,
		Env: maps.Clone(m.Env), Labels: maps.Clone(m.Labels), Idempotent: m.Idempotent, MinSandbox: uint32(m.MinSandbox),
		Place: maps.Clone(m.Place), Affinity: m.Affinity, Description: m.Description,
	}
}

func milliseconds(d time.Duration) uint64 { return uint64(d.Milliseconds()) }

// spec lets the flags that were given outdo the manifest. Variables and labels
// are outdone one by one.
func (c *configuration) spec(flags *pflag.FlagSet, m *manifest.Manifest) (wire.FunctionSpec, error) {
	spec := described(m)
	if flags.Changed("memory") {
		spec.MemoryBytes = uint64(c.memory)
	}
	for name, given := range map[string]struct {
		value time.Duration
		field *uint64
	}{
		"timeout":       {c.timeout, &spec.TimeoutMS},
		"start-timeout": {c.startTimeout, &spec.StartTimeoutMS},
		"idle-ttl":      {c.idleTTL, &spec.IdleTTLMS},
	} {
		if given.value < 0 {
			return spec, usagef("--%s must not be negative", name)
		}
		if flags.Changed(name) {
			*given.field = milliseconds(given.value)
		}
	}
	for name, given := range map[string]struct {
		value uint32
		field *uint32
	}{
		"concurrency": {c.concurrency, &spec.Concurrency},
		"min":         {c.minimum, &spec.Min},
		"max":         {c.maximum, &spec.Max},
		"reserved":    {c.reserved, &spec.Reserved},
	} {
		if flags.Changed(name) {
			*given.field = given.value
		}
	}
	if flags.Changed("queue") && c.queue >= 0 {
		queue := uint32(c.queue)
		spec.Queue = &queue
	}
	if flags.Changed("idempotent") {
		spec.Idempotent = c.idempotent
	}
	if flags.Changed("affinity") {
		spec.Affinity = c.affinity
	}
	if flags.Changed("description") {
		spec.Description = c.description
	}
	if flags.Changed("min-sandbox") {
		level, err := sandbox.ParseLevel(c.minSandbox)
		if err != nil {
			return spec, usagef("--min-sandbox: %w", err)
		}
		spec.MinSandbox = uint32(level)
	}
	if err := c.guarantees(flags, &spec); err != nil {
		return spec, err
	}
	return spec, c.pairs(&spec)
}

// guarantees adds the windows and the rate.
func (c *configuration) guarantees(flags *pflag.FlagSet, spec *wire.FunctionSpec) error {
	if flags.Changed("provisioned") {
		spec.Provisioned = nil
		for _, text := range c.provisioned {
			p, err := provision(text)
			if err != nil {
				return usagef("--provisioned %s: %w", text, err)
			}
			spec.Provisioned = append(spec.Provisioned, p)
		}
	}
	if !flags.Changed("rate") && !flags.Changed("burst") {
		return nil
	}
	rate := wire.Rate{}
	if spec.Rate != nil {
		rate = *spec.Rate
	}
	if flags.Changed("rate") {
		rate.PerSecond = c.rate
	}
	if flags.Changed("burst") {
		rate.Burst = c.burst
	}
	if spec.Rate = &rate; rate.PerSecond == 0 {
		if rate.Burst > 0 && flags.Changed("burst") {
			return usagef("--burst needs a --rate")
		}
		spec.Rate = nil
	}
	return nil
}

// provision reads COUNT and what follows it.
func provision(text string) (wire.Provision, error) {
	parts := strings.Split(text, ",")
	n, err := strconv.ParseUint(parts[0], 10, 32)
	if err != nil {
		return wire.Provision{}, fmt.Errorf("%q is not a number of instances", parts[0])
	}
	p := wire.Provision{Count: uint32(n)}
	fields := map[string]*string{"from": &p.From, "to": &p.To, "days": &p.Days, "zone": &p.Zone}
	for _, part := range parts[1:] {
		name, value, ok := strings.Cut(part, "=")
		field := fields[name]
		if !ok || field == nil {
			return p, fmt.Errorf("%q is none of from=, to=, days= and zone=; several days are joined by '+'", part)
		}
		*field = value
	}
	return p, p.Check()
}

// pairs adds variables, labels, and the labels that a node must have.
func (c *configuration) pairs(spec *wire.FunctionSpec) error {
	env := c.env
	if c.envFile != "" {
		lines, err := readLines(c.envFile)
		if err != nil {
			return err
		}
		env = append(lines, env...) // a flag outdoes the file
	}
	for _, given := range []struct {
		flag  string
		items []string
		field *map[string]string
	}{{"--env", env, &spec.Env}, {"--label", c.labels, &spec.Labels}, {"--place", c.place, &spec.Place}} {
		more, err := pairs(given.flag, given.items)
		if err != nil {
			return err
		}
		if *given.field == nil {
			*given.field = more
		} else {
			maps.Copy(*given.field, more)
		}
	}
	return nil
}
