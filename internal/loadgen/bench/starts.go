package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// coldPause lies between two cold starts: they are measured one by one, each
// after the work that the one before it leaves to the background.
const coldPause = 50 * time.Millisecond

// coldFigures are cold starts, in milliseconds: whole first calls, warm calls of the
// same functions, the difference, and the bare floor beside each.
type coldFigures struct{ cold, warm, added, floor []float64 }

// colds measures cold starts: a call of a function that has no instance yet, over
// the median of five calls of it that follow. One node takes and runs them all,
// the others are drained; it holds the program, which the first start, discarded,
// makes sure of. The floor is the same program executed without node and sandbox,
// from fork to its first answer.
func (b *bench) colds(ctx context.Context) (err error) {
	if err := b.drainOthers(ctx, true); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.drainOthers(ctx, false)) }()
	node, err := b.cluster.clientOf(b.cluster.members[0])
	if err != nil {
		return err
	}
	defer node.Close()
	colds := names("cold", b.plan.colds+1)
	if err := b.deployAll(ctx, colds, b.echo, wire.FunctionSpec{MemoryBytes: 64 << 20}); err != nil {
		return err
	}
	figures, err := measureColds(ctx, node, colds, func() (float64, error) { return b.floor(ctx) })
	if err != nil {
		return err
	}
	b.report.add(figures.rows("exec_floor", "cold_start_go", "same program, no node, no sandbox")...)
	return nil
}

// measureColds calls each function for the first time; the first is discarded.
func measureColds(ctx context.Context, node *client.Client, names []string, floor func() (float64, error)) (*coldFigures, error) {
	f := &coldFigures{}
	for i, name := range names {
		<-time.After(coldPause)
		first, again, err := coldStart(ctx, node, name)
		if err != nil {
			return nil, err
		}
		<-time.After(coldPause)
		bare, err := floor()
		if err != nil {
			return nil, err
		}
		if i > 0 {
			f.cold, f.warm, f.added, f.floor = append(f.cold, first), append(f.warm, again), append(f.added, first-again), append(f.floor, bare)
		}
	}
	return f, nil
}

// rows are the floor and the cold start under the given names.
func (f *coldFigures) rows(floor, cold, floorNote string) []row {
	return []row{
		{
			Name: floor, Callers: 1, Bytes: 2, Unit: "ms", Value: median(f.floor), Ratio: 1,
			p50: median(f.floor), p99: quantile(f.floor, 0.99), note: floorNote,
		},
		{
			Name: cold, Callers: 1, Bytes: 2, Unit: "ms", Value: median(f.added), Ratio: median(f.added) / median(f.floor),
			p50: median(f.cold), p99: quantile(f.cold, 0.99), spread: [2]float64{quantile(f.added, 0), quantile(f.added, 1)},
			note: fmt.Sprintf("median of %d over the same node's warm call of %s ms; code on the node, first start discarded; p50 and p99 are whole calls",
				len(f.added), number(median(f.warm))),
		},
	}
}

// coldStart calls a function for the first time, and then a few times more. It
// returns the first and the median of the others, in milliseconds.
func coldStart(ctx context.Context, node *client.Client, name string) (first, again float64, err error) {
	var warm []float64
	for i := range 6 {
		took, reply, err := timed(ctx, node, name)
		if err != nil {
			return 0, 0, err
		}
		if reply.Cold != (i == 0) {
			return 0, 0, fmt.Errorf("call %d of %s: cold is %v", i+1, name, reply.Cold)
		}
		if i == 0 {
			first = took
		} else {
			warm = append(warm, took)
		}
	}
	return first, median(warm), nil
}

// timed calls a function and tells how long it took, in milliseconds.
func timed(ctx context.Context, through *client.Client, name string) (ms float64, reply *client.Reply, err error) {
	begun := time.Now()
	reply, err = through.Invoke(ctx, &client.Call{Function: name, Body: []byte("{}")})
	return micros(time.Since(begun)) / 1000, reply, err
}

func (b *bench) floor(ctx context.Context) (float64, error) {
	begun := time.Now()
	p, err := startPlugin(b.echo)
	if err != nil {
		return 0, err
	}
	defer p.close()
	err = p.call(ctx, []byte("{}"))
	return micros(time.Since(begun)) / 1000, err
}

// starters is how many callers start functions at once.
const starters = 8

// burst measures how many instances start in a second when many functions are
// called at once for the first time.
func (b *bench) burst(ctx context.Context) error {
	starts := names("burst", b.plan.starts)
	if err := b.deployAll(ctx, starts, b.echo, wire.FunctionSpec{MemoryBytes: 64 << 20}); err != nil {
		return err
	}
	rate, err := b.startAll(ctx, starts)
	if err != nil {
		return err
	}
	b.report.add(row{Name: "starts_per_second", Callers: starters, Unit: "starts/s", Value: rate})
	return nil
}

// startAll calls each function once, and returns how many it called in a second.
func (b *bench) startAll(ctx context.Context, names []string) (perSecond float64, err error) {
	queue := make(chan string, len(names)) // all of them, before anybody reads
	for _, name := range names {
		queue <- name
	}
	close(queue)
	var mu sync.Mutex // guards errs
	var errs []error
	var wg sync.WaitGroup
	begun := time.Now()
	for range starters {
		wg.Go(func() {
			for name := range queue {
				if _, _, err := timed(ctx, b.cluster.client, name); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return float64(len(names)) / time.Since(begun).Seconds(), errors.Join(errs...)
}

// footprint is what a node uses while nothing is asked of it.
type footprint struct {
	rss  []float64 // of each node, in MiB
	core float64   // percent of a core with all its instances, the median node's
}

// idleNodes measures the nodes before anything was deployed.
func (b *bench) idleNodes(ctx context.Context) (err error) {
	b.fresh, err = b.footprint(ctx)
	return err
}

// idle measures what instances use while nothing happens, and the nodes once
// more: the functions of the parts before are still warm.
func (b *bench) idle(ctx context.Context) error {
	var pss []float64
	for _, m := range b.cluster.members {
		pss = append(pss, instances(m.pid(), nil)...)
	}
	worked, err := b.footprint(ctx)
	if err != nil {
		return err
	}
	b.report.add(
		row{
			Name: "instance_pss", Unit: "MiB", Value: median(pss), spread: [2]float64{quantile(pss, 0), quantile(pss, 1)},
			note: fmt.Sprintf("median of %d instances of one program, each with its process 1", len(pss)),
		},
		row{
			Name: "node_rss", Unit: "MiB", Value: median(b.fresh.rss), spread: [2]float64{quantile(b.fresh.rss, 0), quantile(b.fresh.rss, 1)},
			note: fmt.Sprintf("three nodes before the first deploy, %s %% of a core; at the end of this part %s MiB and %s %% with %d warm instances",
				number(b.fresh.core), number(median(worked.rss)), number(worked.core), len(pss)),
		},
	)
	return nil
}

// footprint looks at the nodes for a while.
func (b *bench) footprint(ctx context.Context) (footprint, error) {
	var f footprint
	before := map[int]time.Duration{}
	for _, m := range b.cluster.members {
		_, r := memory(m.pid())
		f.rss = append(f.rss, r/1024)
		before[m.pid()] = treeCPU(m.pid())
	}
	select {
	case <-time.After(b.plan.idleWindow):
	case <-ctx.Done():
		return f, ctx.Err()
	}
	var cores []float64
	for _, m := range b.cluster.members {
		cores = append(cores, 100*(treeCPU(m.pid())-before[m.pid()]).Seconds()/b.plan.idleWindow.Seconds())
	}
	f.core = median(cores)
	return f, nil
}
