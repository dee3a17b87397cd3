package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/plugins"
)

const (
	// attachDelay keeps go-plugin away from an instance that may be gone soon,
	// and from the processor while the instance's first calls run.
	attachDelay = 2 * time.Second
	// pingEvery is how often an instance is asked whether it lives: a process
	// that was stopped, or whose runtime hangs, keeps its connection.
	pingEvery = 15 * time.Second
	// pingLimit is how long it may take to answer.
	pingLimit = 10 * time.Second
)

// attachment makes an instance an ordinary go-plugin client, off the path of
// calls. It holds back the handshake line that the process prints first.
type attachment struct {
	log  zerolog.Logger
	in   *instance
	line atomic.Pointer[[]byte]
}

func newAttachment(log zerolog.Logger, in *instance) *attachment {
	return &attachment{log: log, in: in}
}

// handshake takes the first line of standard output and reports whether it is
// go-plugin's handshake, as in "1|1|unix|/tmp/plugin1|netrpc".
func (a *attachment) handshake(line []byte) bool {
	if bytes.Count(line, []byte("|")) < 4 || line[0] < '0' || line[0] > '9' {
		return false
	}
	line = append(bytes.Clone(line), '\n')
	a.line.Store(&line)
	return true
}

// run attaches go-plugin to the instance and checks its health until ctx ends.
// An instance without the handshake goes unchecked.
func (a *attachment) run(ctx context.Context, p process) {
	if !pause(ctx, attachDelay) {
		return
	}
	line := a.line.Load()
	if line == nil {
		return
	}
	client, err := plugins.Attach(ctx, plugins.AttachConfig{
		Process: handle{p},
		Stdout:  &heldLine{ctx: ctx, rest: *line},
		Output:  func([]byte) {}, // the log has the rest of standard output already
		// The path is one of the process's own mount namespace.
		Translate: func(path string) string { return fmt.Sprintf("/proc/%d/root%s", p.Pid(), path) },
	})
	if err != nil {
		a.log.Debug().Str("instance", a.in.id).Err(err).Msg("attach go-plugin")
		return
	}
	a.check(ctx, client)
	if err := client.Close(); err != nil {
		a.log.Debug().Str("instance", a.in.id).Err(err).Msg("detach go-plugin")
	}
}

// pinger is the health check of an attached client.
type pinger interface{ Ping() error }

// check pings the instance until ctx ends, and has it ended when it does not
// answer.
func (a *attachment) check(ctx context.Context, client pinger) {
	for pause(ctx, pingEvery) {
		answer := make(chan error, 1) // so that a late answer finds room
		if !a.in.p.e.spawn(func() { answer <- client.Ping() }) {
			return
		}
		timer := time.NewTimer(pingLimit)
		var err error
		select {
		case err = <-answer:
		case <-timer.C:
			err = errors.New("no answer")
		case <-ctx.Done():
		}
		timer.Stop()
		if err != nil && ctx.Err() == nil {
			a.in.end(endNow, "health check failed: "+err.Error())
			return
		}
	}
}

// pause waits for d and reports whether ctx still lasts.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// heldLine is a reader of the handshake line that ends when the instance does.
type heldLine struct {
	ctx  context.Context
	rest []byte
}

func (h *heldLine) Read(b []byte) (int, error) {
	if len(h.rest) > 0 {
		n := copy(b, h.rest)
		h.rest = h.rest[n:]
		return n, nil
	}
	<-h.ctx.Done()
	return 0, io.EOF
}

// handle gives go-plugin a process; it is never asked to end it before we do.
type handle struct{ process }

var _ plugins.ProcessHandle = handle{}

// Kill ends the whole instance.
func (h handle) Kill() error {
	h.process.Kill()
	return nil
}
