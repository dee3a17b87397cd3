package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/plugins"
)

// health says when an instance is asked whether it lives: a process that was
// stopped, or whose runtime hangs, keeps its connection.
type health struct {
	// delay keeps go-plugin away from an instance that may be gone soon, and from
	// the processor while the instance's first calls run.
	delay time.Duration
	// every is the time between two questions, limit the time for an answer.
	every, limit time.Duration
}

// defaultHealth costs an idle instance a few wake-ups a minute, and finds a hung
// one within half a minute.
func defaultHealth() health {
	return health{delay: 2 * time.Second, every: 15 * time.Second, limit: 10 * time.Second}
}

// attachDir makes the directory for go-plugin's own files, empty.
func attachDir(dataDir string) (string, error) {
	dir := filepath.Join(dataDir, "attach")
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("empty attach directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make attach directory: %w", err)
	}
	return dir, nil
}

// attachment makes an instance an ordinary go-plugin client, off the path of
// calls. It holds back the handshake line that the process prints.
type attachment struct {
	log    zerolog.Logger
	in     *instance
	dir    string
	health health
	line   chan []byte // has room for the one line that handshake takes
}

func newAttachment(l *processLauncher, in *instance) *attachment {
	return &attachment{log: l.log, in: in, dir: l.dir, health: l.health, line: make(chan []byte, 1)}
}

// handshake takes a line of standard output and reports whether it is
// go-plugin's handshake.
func (a *attachment) handshake(line []byte) bool {
	if !bytes.HasPrefix(line, []byte("1|1|unix|/")) || !bytes.HasSuffix(line, []byte("|netrpc|")) {
		return false
	}
	a.line <- append(bytes.Clone(line), '\n')
	return true
}

// runner returns what attaches go-plugin to the process and checks its health
// until the process has ended. An instance without the handshake goes unchecked.
func (a *attachment) runner(p process) func(ctx context.Context) {
	return func(ctx context.Context) {
		if !pause(ctx, a.health.delay) {
			return
		}
		var line []byte
		select {
		case line = <-a.line:
		case <-ctx.Done():
			return
		}
		var socket insideSocket
		client, err := plugins.Attach(ctx, plugins.AttachConfig{
			Process:   p,
			Stdout:    &heldLine{ctx: ctx, rest: line},
			Translate: func(path string) string { return socket.open(p.Pid(), path) },
			TempDir:   a.dir,
		})
		socket.close()
		if err != nil {
			a.log.Debug().Str("instance", a.in.id).Err(err).Msg("attach go-plugin")
			return
		}
		a.check(ctx, client)
		<-ctx.Done()
		if err := client.Close(); err != nil {
			a.log.Debug().Str("instance", a.in.id).Err(err).Msg("detach go-plugin")
		}
	}
}

// pinger is the health check of an attached client.
type pinger interface{ Ping() error }

// check pings the instance until ctx ends, and has it ended when it does not
// answer.
func (a *attachment) check(ctx context.Context, client pinger) {
	for pause(ctx, a.health.every) {
		answer := make(chan error, 1) // so that a late answer finds room
		if !a.in.p.e.spawn(func() { answer <- client.Ping() }) {
			return
		}
		timer := time.NewTimer(a.health.limit)
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

// Read gives the line away once and then waits: go-plugin takes the end of
// standard output for the end of the process.
func (h *heldLine) Read(b []byte) (int, error) {
	if len(h.rest) > 0 {
		n := copy(b, h.rest)
		h.rest = h.rest[n:]
		return n, nil
	}
	<-h.ctx.Done()
	return 0, io.EOF
}
