package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/covey-dev/covey/plugins/runtime/stdio"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

const (
	// grace is what a process has between SIGTERM and SIGKILL.
	grace = time.Second
	// linger is how long output is awaited that a left process may hold open, once the program has ended.
	linger = 50 * time.Millisecond
	// copyBuffer is as much as a pipe holds.
	copyBuffer = 64 << 10
)

// run is one process for one call.
type run struct {
	env    []string
	input  []byte
	stderr *stdio.Stderr
	output io.Writer
}

// buffers holds what output passes through.
var buffers = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}

// perform runs the program to its end. It returns what the process used, unless it did not start, and nil or how it failed.
func (h *host) perform(ctx context.Context, r *run) (*syscall.Rusage, error) {
	stdin, err := inputFile(r.input)
	if err != nil {
		return nil, fmt.Errorf("pass the input: %w", err)
	}
	defer stdin.Close()
	stdout, outEnd, err := newPipe()
	if err != nil {
		return nil, fmt.Errorf("pass the output: %w", err)
	}
	defer stdout.Close()
	stderr, errEnd, err := newPipe()
	if err != nil {
		_ = syscall.Close(outEnd)
		return nil, fmt.Errorf("pass the output: %w", err)
	}
	defer stderr.Close()
	p, err := h.running.start(h.program, r.env, []uintptr{stdin.Fd(), uintptr(outEnd), uintptr(errEnd)})
	_ = syscall.Close(outEnd)
	_ = syscall.Close(errEnd)
	if err != nil {
		return nil, covey.Errorf("StartFailed", "start %s: %v", h.program.path, err)
	}
	stop := context.AfterFunc(ctx, p.end)
	var readers sync.WaitGroup
	readers.Go(func() { copyAll(r.stderr, stderr) })
	var copyErr error
	readers.Go(func() {
		if copyErr = copyAll(r.output, stdout); copyErr != nil {
			p.kill()
		}
	})
	p.wait()
	stop()
	h.running.clear()
	stdout.ended()
	stderr.ended()
	readers.Wait()
	return &p.usage, r.outcome(ctx, p, copyErr)
}

// outcome is the error of a call whose process has ended.
func (r *run) outcome(ctx context.Context, p *process, copyErr error) error {
	var large *tooLargeError
	switch {
	case errors.As(copyErr, &large):
		r.stderr.Flush()
		return covey.Errorf("ResponseTooLarge", "%v", large)
	case ctx.Err() != nil:
		r.stderr.Flush()
		return stdio.Expired(ctx)
	case copyErr != nil:
		r.stderr.Flush()
		return fmt.Errorf("pass the output on: %w", copyErr)
	case p.status.Signaled():
		return r.stderr.Failure("Signal", fmt.Sprintf("ended by signal %d (%v)", p.status.Signal(), p.status.Signal()))
	case p.status.ExitStatus() != 0:
		return r.stderr.Failure("ExitCode", fmt.Sprintf("exit status %d", p.status.ExitStatus()))
	}
	r.stderr.Flush()
	return nil
}

// copyAll copies until the end of from. It goes on reading after a failed write only so far as its caller ends the process.
func copyAll(to io.Writer, from io.Reader) error {
	b, _ := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	for {
		n, err := from.Read(*b)
		if n > 0 {
			if _, werr := to.Write((*b)[:n]); werr != nil {
				return werr
			}
		}
		if err != nil {
			return nil // The end; a pipe has no other errors.
		}
	}
}

// collector keeps an output up to a size.
type collector struct {
	most int64 // zero for no limit
	b    []byte
}

// tooLargeError says that a program wrote more than the node takes.
type tooLargeError struct{ most int64 }

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("the output has more than %d bytes; set %s=1 to stream it", e.most, envStream)
}

// Write fails once there is more than the node takes.
func (c *collector) Write(p []byte) (int, error) {
	if c.most > 0 && int64(len(c.b)+len(p)) > c.most {
		return 0, &tooLargeError{most: c.most}
	}
	c.b = append(c.b, p...)
	return len(p), nil
}

// pipe is the reading end of a program's output. It ends when all its writers have, or soon after the program.
type pipe struct {
	file *os.File
	over atomic.Bool // the program has ended
}

// newPipe returns the ends of a pipe: ours, which does not hold a thread while it waits, and the program's.
func newPipe() (*pipe, int, error) {
	var ends [2]int
	if err := pipe2(ends[:]); err != nil {
		return nil, 0, err
	}
	if err := syscall.SetNonblock(ends[0], true); err != nil {
		return nil, 0, errors.Join(err, syscall.Close(ends[0]), syscall.Close(ends[1]))
	}
	return &pipe{file: os.NewFile(uintptr(ends[0]), "output")}, ends[1], nil
}

// Read returns io.EOF at the end.
func (p *pipe) Read(b []byte) (int, error) {
	for {
		over := p.over.Load()
		if over {
			// What was written before the end is there already.
			if err := p.file.SetReadDeadline(time.Now().Add(linger)); err != nil {
				return 0, io.EOF
			}
		}
		n, err := p.file.Read(b)
		if n > 0 || err == nil {
			return n, nil
		}
		if over || !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, io.EOF
		}
	}
}

// ended tells that the program has, so that only a process that it left behind could write more.
func (p *pipe) ended() {
	p.over.Store(true)
	// A reader that waits is woken up and looks again.
	_ = p.file.SetReadDeadline(time.Now())
}

// Close closes our end.
func (p *pipe) Close() error { return p.file.Close() }
