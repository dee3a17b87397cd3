package blob

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// repairLoop repairs at intervals and when kicked.
func (s *Store) repairLoop(ctx context.Context) {
	tick := time.NewTicker(s.cfg.RepairEvery)
	defer tick.Stop()
	for {
		s.expireReceives(time.Now())
		if err := s.Repair(ctx); err != nil && ctx.Err() == nil {
			s.log.Debug().Err(err).Msg("repair incomplete")
		}
		select {
		case <-ctx.Done():
			return
		case <-s.kicked:
		case <-tick.C:
		}
	}
}

// Repair fetches every named blob that this node owns and lacks, and returns
// what it could not fetch. A node owns a digest when it is among the first three
// of its ring that were not silent for Config.SilentAfter: an owner that only
// flaps is not replaced. Run calls it at intervals.
func (s *Store) Repair(ctx context.Context) error {
	named, err := s.cfg.Referenced()
	if err != nil {
		// Fetching by a stale list would do no harm, but a node that cannot reach the
		// cluster cannot reach the blobs either.
		return fmt.Errorf("repair blobs: %w", err)
	}
	s.noteSilence(time.Now())
	var errs []error
	for d := range named {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.present(d) || !s.owns(d) {
			continue
		}
		errs = append(errs, s.heal(ctx, d))
	}
	return errors.Join(errs...)
}

// heal fetches d and logs the change between failing and not.
func (s *Store) heal(ctx context.Context, d Digest) error {
	f, err := s.Open(ctx, d)
	if err == nil {
		err = f.Close()
	}
	s.mu.Lock()
	failedBefore := s.failing[d]
	if err != nil {
		s.failing[d] = true
	} else {
		delete(s.failing, d)
	}
	s.mu.Unlock()
	switch {
	case ctx.Err() != nil:
	case err != nil && !failedBefore:
		s.log.Warn().Err(err).Stringer("digest", d).Msg("blob could not be repaired")
	case err == nil:
		s.metrics.repaired.Inc()
		s.log.Info().Stringer("digest", d).Msg("blob repaired")
	}
	return err
}

// present reports whether a file of that name is here, verified or not.
func (s *Store) present(d Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[d] != nil
}

// noteSilence keeps since when each member has been away, by this node's own
// monotonic clock.
func (s *Store) noteSilence(now time.Time) {
	members := s.cfg.Owners(Digest{}) // any digest's ring holds them all
	away := make(map[string]time.Time, len(s.silent))
	for _, node := range members {
		if s.absence(node) == 0 {
			continue
		}
		away[node] = now
		if since, ok := s.silentSince(node); ok {
			away[node] = since
		}
	}
	s.mu.Lock()
	s.silent = away
	s.mu.Unlock()
}

// silentSince returns since when a node has been away, if it is.
func (s *Store) silentSince(node string) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, ok := s.silent[node]
	return since, ok
}

// owns reports whether this node is one of d's owners as of now.
func (s *Store) owns(d Digest) bool {
	ring := s.cfg.Owners(d)
	owners := make([]string, 0, ownerCount)
	now := time.Now()
	for _, node := range ring {
		if since, away := s.silentSince(node); away && now.Sub(since) >= s.cfg.SilentAfter {
			continue
		}
		if owners = append(owners, node); len(owners) == ownerCount {
			break
		}
	}
	return slices.Contains(owners, s.cfg.Self)
}
