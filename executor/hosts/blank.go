package hosts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
)

const (
	// blanksReady is how many processes of a runtime wait while the runtime is in use.
	// One idle Python takes some 8 MiB; a burst beyond them starts processes of its own.
	blanksReady = 2
	// refillAfter is how long a Pool rests after a blank was taken, because somebody
	// waits for what the blank is becoming, and nobody for the next blank.
	refillAfter = 25 * time.Millisecond
	// blankRetry is the pause after a blank that could not be started.
	blankRetry = 5 * time.Second
)

// blank is a process of a runtime that is no function yet, and its ends of
// everything.
type blank struct {
	process        *sandbox.Process
	conn           *net.UnixConn
	stdout, stderr *os.File // what it prints; read ends
}

// start starts a process of a runtime. paths are what it is to see besides the
// runtime's own files.
func (p *Pool) start(ctx context.Context, rt *Runtime, paths ...string) (_ *blank, err error) {
	b := &blank{}
	var theirs [3]*os.File
	defer func() {
		for _, f := range theirs {
			if f != nil {
				_ = f.Close() // the process has its own copies
			}
		}
		if err != nil {
			b.discard()
		}
	}()
	if b.conn, theirs[0], err = plugins.Pair(); err != nil {
		return nil, fmt.Errorf("open data plane: %w", err)
	}
	if b.stdout, theirs[1], err = os.Pipe(); err != nil {
		return nil, fmt.Errorf("open pipe for output: %w", err)
	}
	if b.stderr, theirs[2], err = os.Pipe(); err != nil {
		return nil, fmt.Errorf("open pipe for errors: %w", err)
	}
	if rt.Files != "" {
		paths = append(paths, rt.Files)
	}
	b.process, err = p.cfg.Sandbox.Start(ctx, sandbox.Spec{
		Instance: fmt.Sprintf("blank-%s-%d", rt.Name, p.serial.Add(1)), Code: rt.Program, Path: rt.Path, Args: rt.Args,
		Env: blankEnvironment(), Files: theirs[:1], Stdout: theirs[1], Stderr: theirs[2], ReadPaths: paths,
		Pids: rt.Pids,
	})
	if err != nil {
		return nil, fmt.Errorf("start runtime %s: %w", rt.Name, err)
	}
	return b, nil
}

// blankEnvironment is what a process finds before it knows whom it serves.
func blankEnvironment() []string {
	cookie := plugins.Handshake()
	return []string{
		cookie.MagicCookieKey + "=" + cookie.MagicCookieValue,
		fmt.Sprintf("PLUGIN_PROTOCOL_VERSIONS=%d", cookie.ProtocolVersion),
		"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8",
	}
}

// discard ends a blank that nobody takes.
func (b *blank) discard() {
	if b.process != nil {
		b.process.Kill()
	}
	if b.conn != nil {
		_ = b.conn.Close()
	}
	for _, f := range []*os.File{b.stdout, b.stderr} {
		if f != nil {
			_ = f.Close()
		}
	}
}

func (b *blank) dead() bool {
	select {
	case <-b.process.Done():
		return true
	default:
		return false
	}
}

// shelf has the blanks of one runtime.
type shelf struct {
	pool *Pool
	rt   *Runtime
	wake chan struct{} // capacity 1: something below has changed

	mu     sync.Mutex
	wanted bool
	ready  []*blank
	taken  time.Time // when the last one was
	failed bool      // the last start did; logged once
}

// want says whether blanks are wanted.
func (s *shelf) want(wanted bool) {
	s.mu.Lock()
	changed := s.wanted != wanted
	s.wanted = wanted
	s.mu.Unlock()
	if changed {
		s.poke()
	}
}

func (s *shelf) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns a waiting blank, or nil.
func (s *shelf) take() *blank {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = time.Now()
	defer s.poke()
	for len(s.ready) > 0 {
		b := s.ready[0] // the one that has had the most time to get ready
		s.ready = s.ready[1:]
		if !b.dead() {
			return b
		}
		s.pool.work.Go(b.discard)
	}
	return nil
}

// keep has the shelf filled while blanks are wanted, and empty else. It ends with ctx.
func (s *shelf) keep(ctx context.Context) {
	defer s.clear()
	for {
		wait, idle := s.next()
		if wait == 0 && !idle {
			wait = s.add(ctx)
		}
		var later <-chan time.Time
		if wait > 0 {
			later = time.After(wait)
		} else if !idle {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-later:
		case <-s.wake:
		}
	}
}

// next says how long to wait before another blank is made, or that none is needed.
func (s *shelf) next() (wait time.Duration, idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.wanted {
		for _, b := range s.ready {
			s.pool.work.Go(b.discard)
		}
		s.ready = nil
		return 0, true
	}
	if len(s.ready) >= blanksReady {
		return 0, true
	}
	if len(s.ready) == 0 {
		return 0, false
	}
	return max(0, refillAfter-time.Since(s.taken)), false
}

// add makes a blank. It returns how long to wait before the next one.
func (s *shelf) add(ctx context.Context) time.Duration {
	b, err := s.pool.start(ctx, s.rt)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if !s.failed && !errors.Is(err, context.Canceled) {
			s.pool.log.Warn().Str("runtime", s.rt.Name).Err(err).Msg("runtime does not start ahead")
		}
		s.failed = true
		return blankRetry
	}
	s.failed = false
	s.ready = append(s.ready, b)
	return 0
}

// clear ends what waits.
func (s *shelf) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.ready {
		b.discard()
	}
	s.ready = nil
}
