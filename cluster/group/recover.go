package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/internal/logadapt"
)

// RecoverConfig says how to repair the directory of a group that lost its quorum
// for good.
type RecoverConfig struct {
	// Dir is the group's directory. The node must be stopped.
	Dir string
	// ID and Advertise are this node's.
	ID        NodeID
	Advertise string
	// Voters is the new configuration: usually this node alone, after which others
	// join anew. With several, each must be recovered with the same list.
	Voters []Server
	// FSM is an empty state machine that is used up: open the group with another.
	FSM FSM
	// Backup is where the directory is copied to first. It must not exist.
	Backup string
	// DryRun only reads, and returns what would be done.
	DryRun bool
	Logger zerolog.Logger
}

// RecoverReport tells what Recover found and did.
type RecoverReport struct {
	// Snapshot is the index of the newest snapshot; 0 if there is none.
	Snapshot Index
	// First and Last are the ends of the log.
	First, Last Index
	Term        uint64
	// Old is the configuration found, New the one written.
	Old, New []Member
	// Replayed counts the commands behind the snapshot. Recovery commits all of
	// them, also those that the lost majority may never have agreed to.
	Replayed int
	// Backup is where the old directory was copied.
	Backup string
	// Done is false after a dry run.
	Done bool
}

// Recover gives the group in a directory a new set of voters. It is the last
// resort: it makes every entry on this disk count, committed or not, and if
// another part of the old group still lives there are two afterwards. The whole
// directory is copied first.
func Recover(ctx context.Context, cfg RecoverConfig) (*RecoverReport, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	report, err := cfg.inspect()
	if err != nil || cfg.DryRun {
		return report, err
	}
	if err := copyDir(ctx, cfg.Dir, cfg.Backup); err != nil {
		return report, fmt.Errorf("recover: back up %s: %w", cfg.Dir, err)
	}
	report.Backup = cfg.Backup
	if err := cfg.rewrite(); err != nil {
		return report, err
	}
	report.Done = true
	return report, nil
}

// validate reports every problem.
func (c *RecoverConfig) validate() error {
	var errs []error
	need := func(ok bool, problem string) {
		if !ok {
			errs = append(errs, errors.New(problem))
		}
	}
	need(c.Dir != "", "Dir is empty")
	need(c.ID != "", "ID is empty")
	need(c.DryRun || c.FSM != nil, "FSM is nil")
	need(c.DryRun || c.Backup != "", "Backup is empty")
	need(len(c.Voters)%2 == 1, "Voters is not an odd number")
	need(slices.ContainsFunc(c.Voters, func(s Server) bool { return s.ID == c.ID }),
		"Voters does not hold this node")
	need(!slices.ContainsFunc(c.Voters, func(s Server) bool { return s.Addr == "" }),
		"Voters holds a node without an address")
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	return nil
}

// inspect reads the directory without changing it, but for the lock.
func (c *RecoverConfig) inspect() (*RecoverReport, error) {
	if !HasState(c.Dir) {
		return nil, fmt.Errorf("recover: %s holds no group", c.Dir)
	}
	logs, snaps, closeAll, err := c.open()
	if err != nil {
		return nil, err
	}
	defer closeAll()
	report := &RecoverReport{}
	for _, s := range c.Voters {
		report.New = append(report.New, Member{ID: s.ID, Addr: s.Addr, Role: Voter})
	}
	meta, err := snaps.newest()
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	if meta != nil {
		report.Snapshot, report.Term = Index(meta.Index), meta.Term
		report.Old = members(meta.Configuration)
	}
	first, err := logs.FirstIndex()
	if err != nil {
		return nil, fmt.Errorf("recover: read log: %w", err)
	}
	last, err := logs.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("recover: read log: %w", err)
	}
	report.First, report.Last = Index(first), Index(last)
	return report, report.scan(logs)
}

// scan reads the log from its start: configurations may lie before the snapshot's
// end, commands behind it are counted.
func (r *RecoverReport) scan(logs raft.LogStore) error {
	for i := max(r.First, 1); i <= r.Last; i++ {
		var l raft.Log
		err := logs.GetLog(uint64(i), &l)
		if errors.Is(err, raft.ErrLogNotFound) && i <= r.Snapshot {
			continue // the hole that an installed state leaves
		}
		if err != nil {
			return fmt.Errorf("recover: read entry %d: %w", i, err)
		}
		r.Term = max(r.Term, l.Term)
		switch {
		case l.Type == raft.LogConfiguration && i > r.Snapshot || r.Old == nil && l.Type == raft.LogConfiguration:
			r.Old = members(raft.DecodeConfiguration(l.Data))
		case l.Type == raft.LogCommand && i > r.Snapshot:
			r.Replayed++
		}
	}
	return nil
}

// members translates Raft's configuration.
func members(c raft.Configuration) []Member {
	out := make([]Member, 0, len(c.Servers))
	for _, s := range c.Servers {
		role := Standby
		if s.Suffrage == raft.Voter {
			role = Voter
		}
		out = append(out, Member{ID: NodeID(s.ID), Addr: string(s.Address), Role: role})
	}
	return out
}

// open opens the stores without Raft; the returned function closes them.
func (c *RecoverConfig) open() (LogStore, snapshots, func() error, error) {
	logs, err := openLog(c.Dir)
	if err != nil {
		return nil, snapshots{}, nil, fmt.Errorf("recover: %w", err)
	}
	snaps, err := openSnapshots(c.Dir, logadapt.NewHCLog(c.Logger, "raft-snapshot"))
	if err != nil {
		return nil, snapshots{}, nil, fmt.Errorf("recover: %w", errors.Join(err, logs.Close()))
	}
	return logs, snaps, logs.Close, nil
}

// rewrite lets Raft replay everything into one snapshot with the new voters.
func (c *RecoverConfig) rewrite() error {
	logs, snaps, closeAll, err := c.open()
	if err != nil {
		return err
	}
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(c.ID)
	conf.Logger = logadapt.NewHCLog(c.Logger, "raft")
	var voters raft.Configuration
	for _, s := range c.Voters {
		voters.Servers = append(voters.Servers, raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Addr),
		})
	}
	_, transport := raft.NewInmemTransport(raft.ServerAddress(c.Advertise))
	err = raft.RecoverCluster(conf, newBridge(c.FSM), logs, logs, snaps, transport, voters)
	if err := errors.Join(err, transport.Close(), closeAll()); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	return nil
}

// copyDir copies a directory of regular files to a place that must not exist, and
// syncs each.
func copyDir(ctx context.Context, from, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || rel == "." {
			return err
		}
		switch {
		case d.IsDir():
			return os.Mkdir(filepath.Join(to, rel), 0o700)
		case d.Name() == reserveFile || !d.Type().IsRegular():
			return nil
		default:
			return copyFile(path, filepath.Join(to, rel))
		}
	})
}

// copyFile never overwrites.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close())
}
