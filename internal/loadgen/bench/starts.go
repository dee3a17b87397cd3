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

// colds measures cold starts: each call goes to a function that has no instance
// yet, and the call after it is the warm one that it is held against. The floor
// is the same program executed without node and sandbox, to its first answer.
func (b *bench) colds(ctx context.Context) error {
	var cold, warm, added, floor []float64
	for i := range b.plan.colds {
		name := fmt.Sprintf("cold-%d", i)
		if err := b.cluster.deploy(ctx, name, b.echo, wire.FunctionSpec{MemoryBytes: 64 << 20}); err != nil {
			return err
		}
		first, isCold, err := b.timed(ctx, name)
		if err != nil {
			return err
		}
		if !isCold {
			return fmt.Errorf("first call of %s was warm", name)
		}
		var warms []float64
		for range 5 {
			took, _, err := b.timed(ctx, name)
			if err != nil {
				return err
			}
			warms = append(warms, took)
		}
		cold, warm = append(cold, first), append(warm, median(warms))
		added = append(added, first-median(warms))
		took, err := b.floor(ctx)
		if err != nil {
			return err
		}
		floor = append(floor, took)
	}
	b.report.add(
		row{Name: "exec_floor", Callers: 1, Bytes: 2, Unit: "ms", Value: median(floor), Ratio: 1, p50: median(floor), p99: quantile(floor, 0.99), note: "same program, no node, no sandbox"},
		row{
			Name: "cold_start_go", Callers: 1, Bytes: 2, Unit: "ms", Value: median(added), Ratio: median(added) / median(floor), p50: median(cold), p99: quantile(cold, 0.99),
			note: fmt.Sprintf("over a warm call of %s ms", number(median(warm))),
		},
	)
	return nil
}

// timed calls a function through the first node and tells how long it took, in
// milliseconds, and whether it was cold.
func (b *bench) timed(ctx context.Context, name string) (ms float64, cold bool, err error) {
	begun := time.Now()
	reply, err := b.cluster.client.Invoke(ctx, &client.Call{Function: name, Body: []byte("{}")})
	took := time.Since(begun)
	if err != nil {
		return 0, false, err
	}
	return micros(took) / 1000, reply.Cold, nil
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

// burst measures how many instances start in a second when many functions are
// called at once for the first time.
func (b *bench) burst(ctx context.Context) error {
	const starters = 8
	names := make(chan string, b.plan.starts) // all of them, before anybody reads
	for i := range b.plan.starts {
		name := fmt.Sprintf("burst-%d", i)
		if err := b.cluster.deploy(ctx, name, b.echo, wire.FunctionSpec{MemoryBytes: 64 << 20}); err != nil {
			return err
		}
		names <- name
	}
	close(names)
	var mu sync.Mutex // guards errs
	var errs []error
	var wg sync.WaitGroup
	begun := time.Now()
	for range starters {
		wg.Go(func() {
			for name := range names {
				if _, _, err := b.timed(ctx, name); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	rate := float64(b.plan.starts) / time.Since(begun).Seconds()
	b.report.add(row{Name: "starts_per_second", Callers: starters, Unit: "starts/s", Value: rate})
	return errors.Join(errs...)
}

// idle measures what is used while nothing happens. The functions of the parts
// before are still warm.
func (b *bench) idle(context.Context) error {
	var pss []float64
	for _, m := range b.cluster.members {
		for _, pid := range children(m.pid()) {
			if p, _ := memory(pid); p > 0 {
				pss = append(pss, p/1024)
			}
		}
	}
	b.report.add(row{Name: "instance_pss", Unit: "MiB", Value: median(pss), spread: [2]float64{quantile(pss, 0), quantile(pss, 1)}, note: fmt.Sprintf("median of %d processes", len(pss))})
	var rss []float64
	before := map[int]time.Duration{}
	for _, m := range b.cluster.members {
		_, r := memory(m.pid())
		rss = append(rss, r/1024)
		before[m.pid()] = treeCPU(m.pid())
	}
	<-time.After(b.plan.idleWindow)
	var cores []float64
	for _, m := range b.cluster.members {
		cores = append(cores, 100*(treeCPU(m.pid())-before[m.pid()]).Seconds()/b.plan.idleWindow.Seconds())
	}
	b.report.add(row{Name: "node_rss", Unit: "MiB", Value: quantile(rss, 0), spread: [2]float64{quantile(rss, 0), quantile(rss, 1)}, note: fmt.Sprintf("least of three nodes; %s %% of a core while idle", number(median(cores)))})
	return nil
}
