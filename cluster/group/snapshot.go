package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// snapshotLoop takes a snapshot when enough entries or bytes have gathered. The
// period only bounds how late it notices; a quiet group costs two loads.
func (g *Group) snapshotLoop(ctx context.Context) error {
	tick := time.NewTicker(min(time.Second, g.cfg.Timings.Health))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		entries, bytes := g.bridge.sinceSnapshot()
		if entries < g.cfg.Limits.SnapshotEntries && bytes < g.cfg.Limits.SnapshotBytes {
			continue
		}
		if err := g.Compact(ctx); err != nil && ctx.Err() == nil {
			g.log.Warn().Err(err).Msg("snapshot failed")
		}
	}
}

// Compact takes a snapshot now and drops the log that it makes superfluous. It
// does nothing if the newest snapshot is current. Reading and writing go on.
func (g *Group) Compact(ctx context.Context) error {
	select {
	case g.compact <- struct{}{}:
		defer func() { <-g.compact }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := g.setTrailing(); err != nil {
		return fmt.Errorf("compact %s: %w", g.cfg.Name, err)
	}
	done := make(chan error, 1)
	if err := g.await(g.system, func() { done <- g.raft.Snapshot().Error() }); err != nil {
		return fmt.Errorf("compact %s: %w", g.cfg.Name, err)
	}
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err == nil || errors.Is(err, raft.ErrNothingNewToSnapshot) {
		g.metrics.snapshots.WithLabelValues("ok").Inc()
		return nil
	}
	g.metrics.snapshots.WithLabelValues("failed").Inc()
	return fmt.Errorf("compact %s: %w", g.cfg.Name, err)
}

// setTrailing tells Raft, which counts entries, how many of them TrailingBytes
// hold.
func (g *Group) setTrailing() error {
	first, err := g.store.FirstIndex()
	if err != nil {
		return err
	}
	var (
		keep  uint64
		bytes int64
		entry raft.Log
	)
	for i := g.raft.LastIndex(); i >= max(first, 1) && keep < g.cfg.Limits.TrailingEntries; i-- {
		if err := g.store.GetLog(i, &entry); err != nil {
			break // a hole left by an installed state
		}
		if bytes += int64(len(entry.Data)); bytes > g.cfg.Limits.TrailingBytes {
			break
		}
		keep++
	}
	cfg := g.raft.ReloadableConfig()
	// One stays, so that the log tells the term of the last entry.
	cfg.TrailingLogs = max(keep, 1)
	return g.raft.ReloadConfig(cfg)
}

// OpenSnapshot opens the newest snapshot: the state up to and including the
// returned index. With fresh it takes one first, for a backup. The caller closes
// the reader. ErrNoSnapshot means that there is none.
func (g *Group) OpenSnapshot(ctx context.Context, fresh bool) (Index, io.ReadCloser, error) {
	if fresh {
		if err := g.Compact(ctx); err != nil {
			return 0, nil, err
		}
	}
	meta, err := g.snapshots.newest()
	if err != nil {
		return 0, nil, fmt.Errorf("open snapshot of %s: %w", g.cfg.Name, err)
	}
	if meta == nil {
		return 0, nil, fmt.Errorf("open snapshot of %s: %w", g.cfg.Name, ErrNoSnapshot)
	}
	_, r, err := g.snapshots.Open(meta.ID)
	if err != nil {
		return 0, nil, fmt.Errorf("open snapshot of %s: %w", g.cfg.Name, err)
	}
	return Index(meta.Index), r, nil
}

// Install replaces the state of the whole group by one that was written by a
// Snapshot: restoring a backup into a new group. It works on the leader, needs the
// size in advance, and returns when the other members have it too; it has no
// timeout of its own. Proposals in flight end with ErrOutcomeUnknown. The state
// must be known to be good: Raft panics when its own FSM refuses it.
func (g *Group) Install(ctx context.Context, size int64, r io.Reader) error {
	if g.raft.State() != raft.Leader {
		return fmt.Errorf("install state of %s: %w", g.cfg.Name, g.notLeader())
	}
	done := make(chan error, 1)
	err := g.await(g.system, func() {
		done <- g.raft.Restore(&raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Size: size}, r, 0)
	})
	if err == nil {
		select {
		case err = <-done:
			if err != nil && isRaftError(err) {
				err = g.classify(err)
			}
		case <-g.ended:
			err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, ErrClosed)
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
		}
	}
	if err != nil {
		return fmt.Errorf("install state of %s: %w", g.cfg.Name, err)
	}
	return nil
}
