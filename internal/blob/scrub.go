package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"
)

// scrubLoop scrubs at intervals. The first one comes at a random time, so that a
// cluster that was started at once does not scrub at once.
func (s *Store) scrubLoop(ctx context.Context) {
	timer := time.NewTimer(rand.N(s.cfg.ScrubEvery))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if _, err := s.Scrub(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("scrub incomplete")
		}
		timer.Reset(s.cfg.ScrubEvery)
	}
}

// Scrub reads every local blob from the disk, at Config.ScrubRate. Those that do
// not match their digest are set aside, and fetched anew from other nodes when
// the cluster names them. It returns how many were rotten.
func (s *Store) Scrub(ctx context.Context) (rotten int, err error) {
	s.mu.Lock()
	digests := make([]Digest, 0, len(s.entries))
	for d := range s.entries {
		digests = append(digests, d)
	}
	s.mu.Unlock()

	var errs []error
	var bad []Digest
	for _, d := range digests {
		if ctx.Err() != nil {
			return rotten, ctx.Err()
		}
		ok, err := s.scrubOne(ctx, d)
		errs = append(errs, err)
		if !ok {
			rotten++
			bad = append(bad, d)
		}
	}
	return rotten, errors.Join(errors.Join(errs...), s.healNamed(ctx, bad))
}

// scrubOne reports whether d is sound, or gone meanwhile.
func (s *Store) scrubOne(ctx context.Context, d Digest) (ok bool, err error) {
	s.mu.Lock()
	e := s.entries[d]
	s.mu.Unlock()
	if e == nil {
		return true, nil
	}
	f, err := s.fs.Open(s.path(d))
	if err != nil {
		if !s.present(d) {
			return true, nil
		}
		// The name is there and the file is not, or cannot be read.
		s.quarantine(d, e, err)
		return false, nil
	}
	defer func() { _ = f.Close() }()
	dropCache(f)
	err = checkFile(ctx, throttled(ctx, f, s.cfg.ScrubRate), d)
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return true, ctx.Err()
	}
	s.quarantine(d, e, fmt.Errorf("scrub: %w", err))
	return false, nil
}

// healNamed fetches those of the digests that the cluster names. The others were
// nobody's.
func (s *Store) healNamed(ctx context.Context, bad []Digest) error {
	if len(bad) == 0 {
		return nil
	}
	named, err := s.cfg.Referenced()
	if err != nil {
		return fmt.Errorf("heal scrubbed blobs: %w", err)
	}
	want := map[Digest]bool{}
	for d := range named {
		want[d] = true
	}
	var errs []error
	for _, d := range bad {
		if want[d] {
			errs = append(errs, s.heal(ctx, d))
		}
	}
	return errors.Join(errs...)
}

// throttle reads at most rate bytes per second on average.
type throttle struct {
	ctx   context.Context
	file  *os.File
	rate  int64
	start time.Time
	done  int64
}

var _ io.Reader = (*throttle)(nil)

func throttled(ctx context.Context, f *os.File, rate int64) *throttle {
	return &throttle{ctx: ctx, file: f, rate: rate, start: time.Now()}
}

// Read reads, and then waits until the bytes so far are within the rate.
func (t *throttle) Read(p []byte) (int, error) {
	n, err := t.file.Read(p)
	t.done += int64(n)
	due := time.Duration(float64(t.done) / float64(t.rate) * float64(time.Second))
	if wait := due - time.Since(t.start); wait > 0 && n > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-t.ctx.Done():
			return n, t.ctx.Err()
		}
	}
	return n, err
}
