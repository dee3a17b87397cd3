package blob

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// collectsPerGrace is how often a collection looks within Config.GCAfter.
const collectsPerGrace = 24

// collectLoop collects at intervals.
func (s *Store) collectLoop(ctx context.Context) {
	tick := time.NewTicker(max(s.cfg.GCAfter/collectsPerGrace, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := s.Collect(); err != nil {
			s.log.Warn().Err(err).Msg("unnamed blobs not collected")
		}
	}
}

// Collect deletes the blobs that nothing named for Config.GCAfter and returns how
// many. The time counts from the first collection of this daemon's life that
// found a blob unnamed; a restart or a Put of the same bytes begins it anew.
func (s *Store) Collect() (deleted int, err error) {
	referenced, err := s.cfg.Referenced()
	if err != nil {
		return 0, fmt.Errorf("collect blobs: %w", err)
	}
	named := map[Digest]bool{}
	for d := range referenced {
		named[d] = true
	}
	now := time.Now()
	var due []Digest
	s.mu.Lock()
	for d, e := range s.entries {
		switch {
		case named[d]:
			e.unnamed = time.Time{}
		case e.unnamed.IsZero():
			e.unnamed = now
		case now.Sub(e.unnamed) >= s.cfg.GCAfter:
			due = append(due, d)
		}
	}
	s.mu.Unlock()

	var errs []error
	for _, d := range due {
		ok, err := s.remove(d, now)
		if ok {
			deleted++
		}
		errs = append(errs, err)
	}
	if deleted > 0 {
		s.metrics.collected.Add(float64(deleted))
		s.log.Info().Int("count", deleted).Msg("unnamed blobs deleted")
	}
	return deleted, errors.Join(errs...)
}

// remove deletes d unless somebody asked for it since it was found due. The file
// goes under the mutex: between the look and the deletion no Put may decide to
// rely on this copy. It is one unlink a day at most per blob.
func (s *Store) remove(d Digest, now time.Time) (bool, error) {
	s.mu.Lock()
	e := s.entries[d]
	if e == nil || e.unnamed.IsZero() || now.Sub(e.unnamed) < s.cfg.GCAfter {
		s.mu.Unlock()
		return false, nil
	}
	err := s.fs.Remove(s.path(d))
	if err == nil {
		s.dropHandleLocked(e)
		delete(s.entries, d)
		delete(s.failing, d)
	}
	s.mu.Unlock()
	if err != nil {
		return false, fmt.Errorf("delete blob %s: %w", d, err)
	}
	return true, s.fs.SyncDir(filepath.Dir(s.path(d)))
}
