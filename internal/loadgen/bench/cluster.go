package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/node/client/wire"
)

// leaderKills measures how long after kill -9 of the leader's node the control
// plane takes a write again.
func (b *bench) leaderKills(ctx context.Context) error {
	var took []float64
	for i := range b.plan.kills {
		if err := b.cluster.settled(ctx); err != nil {
			return err
		}
		leader, err := b.leader(ctx)
		if err != nil {
			return err
		}
		begun := time.Now()
		leader.kill()
		err = await(ctx, 30*time.Second, func() error {
			short, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			_, err := b.cluster.client.PutAlias(short, "default", "echo", fmt.Sprintf("kill-%d", i), wire.AliasChange{Version: 1}, 0)
			return err
		})
		if err != nil {
			return fmt.Errorf("no write after the leader was killed: %w", err)
		}
		took = append(took, time.Since(begun).Seconds())
		if err := b.cluster.start(ctx, leader); err != nil {
			return err
		}
	}
	b.report.add(row{
		Name: "leader_kill", Unit: "s", Value: median(took), p50: 1000 * median(took), p99: 1000 * quantile(took, 1),
		spread: [2]float64{quantile(took, 0), quantile(took, 1)}, note: fmt.Sprintf("%d kills, p99 is the worst", len(took)),
	})
	return b.cluster.settled(ctx)
}

// leader returns the member that leads, once one does.
func (b *bench) leader(ctx context.Context) (*member, error) {
	var leader *member
	err := await(ctx, 20*time.Second, func() error {
		list, err := b.cluster.client.Nodes(ctx)
		if err != nil {
			return err
		}
		for _, n := range list {
			for _, m := range b.cluster.members {
				if n.Leader && n.Name == m.name {
					leader = m
					return nil
				}
			}
		}
		return errors.New("no node leads")
	})
	return leader, err
}

// companions is how many members join before observers are counted: from seven
// nodes on five vote and two stand by, and what those cost is no observer's cost.
const companions = 4

// observerCost measures what many observers cost the leader.
func (b *bench) observerCost(ctx context.Context) error {
	few, err := b.join(ctx, "companions", companions)
	if err != nil {
		return err
	}
	defer few.end()
	if err := b.rolesSettled(ctx); err != nil {
		return err
	}
	leader, err := b.leader(ctx)
	if err != nil {
		return err
	}
	without, err := b.share(ctx, leader)
	if err != nil {
		return err
	}
	many, err := b.join(ctx, "observers", b.plan.observers)
	if err != nil {
		return err
	}
	defer many.end()
	// Joining is work for everybody; what is measured is the state after it.
	<-time.After(b.plan.idleWindow / 2)
	with, err := b.share(ctx, leader)
	if err != nil {
		return err
	}
	b.report.add(row{
		Name: "observers", Callers: b.plan.observers, Unit: "% of a core", Value: with - without,
		note: fmt.Sprintf("leader of five voters and two standbys: %s %% with them, %s %% without", number(with), number(without)),
	})
	return nil
}

// join runs so many further members in a process of their own and returns when
// all of them belong to the cluster.
func (b *bench) join(ctx context.Context, dir string, n int) (*proc, error) {
	token, err := b.cluster.client.CreateJoinToken(ctx, wire.JoinTokenRequest{})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0], "observers", "-n", fmt.Sprint(n), "-dir", filepath.Join(b.dir, dir), "-join", token.Token)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		p.end()
		return nil, fmt.Errorf("%s said %q: %w", dir, line, err)
	}
	return p, nil
}

// rolesSettled waits until five members vote and all others stand by.
func (b *bench) rolesSettled(ctx context.Context) error {
	return await(ctx, 60*time.Second, func() error {
		list, err := b.cluster.client.Nodes(ctx)
		if err != nil {
			return err
		}
		roles := map[string]int{}
		for _, n := range list {
			roles[n.Role]++
		}
		if roles["voter"] != 5 || roles["standby"] != 2 {
			return fmt.Errorf("roles are %v", roles)
		}
		return nil
	})
}

// share is how much of a core a node uses while nothing is asked of it.
func (b *bench) share(_ context.Context, m *member) (float64, error) {
	before := treeCPU(m.pid())
	<-time.After(b.plan.idleWindow)
	return 100 * (treeCPU(m.pid()) - before).Seconds() / b.plan.idleWindow.Seconds(), nil
}

// runObservers runs many members of the cluster in this process, without
// executors: what a leader sees of a node that only follows.
func runObservers(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("observers", flag.ContinueOnError)
	n := flags.Int("n", 1, "how many")
	dir := flags.String("dir", "", "where their data goes")
	token := flags.String("join", "", "join token")
	if err := flags.Parse(args); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	var members []*cluster.Cluster
	for i := range *n {
		cfg := cluster.DefaultConfig()
		cfg.DataDir, cfg.Name = filepath.Join(*dir, fmt.Sprint(i)), fmt.Sprintf("observer-%d", i)
		cfg.Peer = cluster.Endpoint{Bind: "127.0.0.1:0", Advertise: "127.0.0.1"}
		cfg.Gossip = cluster.Endpoint{Bind: "127.0.0.1:0", Advertise: "127.0.0.1"}
		cfg.APIAdvertise = "127.0.0.1:1"
		cfg.Info = cluster.NodeInfo{OS: "none", Arch: "none", CPUs: 1, MemoryBytes: 1 << 30}
		cfg.Logger, cfg.Registerer = zerolog.Nop(), prometheus.NewRegistry()
		cfg.Exit = func(error) {}
		if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
			return err
		}
		if err := cluster.Join(ctx, cfg, *token); err != nil {
			return err
		}
		c, err := cluster.Open(cfg)
		if err != nil {
			return err
		}
		members = append(members, c)
		group.Go(func() error { return errors.Join(c.Run(ctx), c.Close()) })
	}
	for _, c := range members {
		select {
		case <-c.Ready():
		case <-ctx.Done():
			return group.Wait()
		}
	}
	fmt.Println("ready")
	return group.Wait()
}
