// Command bench measures Covey by the rules of docs/benchmarks.md: real nodes as
// processes on loopback in their default configuration, one load generator for
// all rows, rows alternating within one run, medians of several rounds, each
// beside a reference from the same run. It prints a table and writes
// build/bench.json.
//
// It reports and does not judge: there is no figure at which it fails.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// options is what the command line says.
type options struct {
	quick     bool
	parts     string
	covey     string
	functions string
	out       string
}

// Counts and lengths of a run, full and quick.
type plan struct {
	rounds     int
	each       time.Duration // of one row in one round
	bytes      []int
	callers    []int
	colds      int
	starts     int // functions started in the burst
	kills      int
	observers  int
	idleWindow time.Duration
}

func (o options) plan() plan {
	if o.quick {
		return plan{
			rounds: 3, each: 700 * time.Millisecond, bytes: []int{100}, callers: []int{1, 16, 64},
			colds: 12, starts: 24, kills: 2, observers: 20, idleWindow: 4 * time.Second,
		}
	}
	return plan{
		rounds: 5, each: 1500 * time.Millisecond, bytes: []int{100, 10 << 10, 1 << 20}, callers: []int{1, 16, 64},
		colds: 40, starts: 64, kills: 20, observers: 100, idleWindow: 10 * time.Second,
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(args) > 0 {
		switch args[0] {
		case "hello":
			return serveHello(ctx)
		case "observers":
			return runObservers(ctx, args[1:])
		}
	}
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "end within two minutes")
	flags.StringVar(&o.parts, "parts", "", "only the parts that begin with one of these words, separated by commas")
	flags.StringVar(&o.covey, "covey", "bin/covey", "the binary to measure")
	flags.StringVar(&o.functions, "functions", "build/functions", "folder of the built examples")
	flags.StringVar(&o.out, "out", "build/bench.json", "where the figures go")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return measure(ctx, o)
}

// measure runs all parts on one cluster of three nodes.
func measure(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "covey-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p := o.plan()
	b := &bench{options: o, plan: p, dir: dir, report: &report{}}
	fmt.Println(machine())

	if b.echo, err = filepath.Abs(filepath.Join(o.functions, "echo")); err != nil {
		return err
	}
	b.cluster, err = startCluster(ctx, o.covey, dir, 3)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.cluster.stop()) }()
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"idle nodes", b.idleNodes},
		{"calls", b.calls},
		{"cold starts", b.colds},
		{"burst of starts", b.burst},
		{"idle", b.idle},
		{"runtimes", b.runtimes},
		{"leader kills", b.leaderKills},
		{"observers", b.observerCost},
	} {
		if !o.wants(part.name) {
			continue
		}
		begun := time.Now()
		fmt.Fprintf(os.Stderr, "%s …", part.name)
		if err := part.run(ctx); err != nil {
			b.report.print(os.Stdout) // what was measured before is worth seeing
			return fmt.Errorf("%s: %w", part.name, err)
		}
		fmt.Fprintf(os.Stderr, " %v\n", time.Since(begun).Round(100*time.Millisecond))
	}
	b.report.print(os.Stdout)
	return b.report.write(o.out)
}

// wants tells whether a part is to be measured.
func (o options) wants(part string) bool {
	return o.parts == "" || slices.ContainsFunc(strings.Split(o.parts, ","), func(word string) bool {
		return strings.HasPrefix(part, word)
	})
}

// bench is one run.
type bench struct {
	options
	plan    plan
	dir     string
	echo    string // path of the echo function
	cluster *nodes
	report  *report
	fresh   footprint // of the nodes before any work
}
