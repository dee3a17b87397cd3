package frame

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"
)

// creditSize is the payload of a CREDIT frame.
const creditSize = 4

// streamReader is the caller's end of a streamed answer. The session's reader pushes chunks, never more
// than the window, and the caller takes them.
type streamReader struct {
	s  *Session
	id uint64

	mu      sync.Mutex
	more    sync.Cond
	chunks  []*Buffer
	off     int // bytes already taken of the first chunk
	queued  int // bytes in chunks that are not taken yet
	owed    int // bytes taken since the last CREDIT
	err     error
	stop    func() bool     // ends the watch on the caller's context
	settled <-chan struct{} // set when the stream was given up before its end
}

var _ io.ReadCloser = (*streamReader)(nil)

func newStreamReader(s *Session, id uint64) *streamReader {
	r := &streamReader{s: s, id: id}
	r.more.L = &r.mu
	return r
}

// watch cuts the stream off when ctx ends, or at the deadline.
func (r *streamReader) watch(ctx context.Context, deadline time.Time) {
	if !deadline.IsZero() {
		r.follow(context.WithDeadline(ctx, deadline))
	} else if ctx.Done() != nil {
		r.follow(ctx, func() {})
	}
}

// follow is watch for a context that is cancelled when the stream is closed.
func (r *streamReader) follow(ctx context.Context, cancel context.CancelFunc) {
	stopped := context.AfterFunc(ctx, func() { r.abandon(context.Cause(ctx)) })
	stop := func() bool {
		defer cancel()
		return stopped()
	}
	r.mu.Lock()
	r.stop = stop
	r.mu.Unlock()
}

// push adds a chunk; false means that it exceeds the credit.
func (r *streamReader) push(b *Buffer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(b.Bytes())
	if r.err != nil || n == 0 {
		b.Release()
		return true
	}
	if r.queued+r.owed+n > r.s.cfg.Window {
		return false
	}
	r.chunks = append(r.chunks, b)
	r.queued += n
	r.more.Signal()
	return true
}

// end makes Read return err once the chunks are used up. Only the first end counts.
func (r *streamReader) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
	r.more.Broadcast()
}

// finish ends the stream with the frame that answered the call after all.
func (r *streamReader) finish(h Header, body []byte) error {
	if h.Type != ErrorReply {
		return fmt.Errorf("%w: %s inside a stream", ErrProtocol, h.Type)
	}
	f := new(Failure)
	if err := f.Parse(body); err != nil {
		return err
	}
	r.end(f)
	return nil
}

// Read returns what has arrived, waiting for the first byte.
func (r *streamReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.mu.Lock()
	for len(r.chunks) == 0 && r.err == nil {
		r.more.Wait()
	}
	if len(r.chunks) == 0 {
		defer r.mu.Unlock()
		return 0, r.err
	}
	first := r.chunks[0]
	n := copy(p, first.Bytes()[r.off:])
	r.off += n
	if r.off == len(first.Bytes()) {
		r.chunks, r.off = r.chunks[1:], 0
		first.Release()
	}
	r.queued -= n
	r.owed += n
	credit := 0
	// Half a window at a time: the writer need not stop, and few frames are spent on it.
	if r.owed >= r.s.cfg.Window/2 && r.err == nil {
		credit, r.owed = r.owed, 0
	}
	r.mu.Unlock()
	if credit > 0 {
		var b [creditSize]byte
		binary.LittleEndian.PutUint32(b[:], uint32(credit))
		// A failure ends the session, which ends the stream.
		_, _ = r.s.w.Message(Header{Type: Credit, ID: r.id}, nil, b[:])
	}
	return n, nil
}

// Close gives up the rest of the stream and tells the other side if there is one.
func (r *streamReader) Close() error {
	r.abandon(ErrClosed)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop != nil {
		r.stop()
	}
	for _, b := range r.chunks {
		b.Release()
	}
	r.chunks, r.off = nil, 0
	return nil
}

// abandon cancels the call unless the stream has ended.
func (r *streamReader) abandon(err error) {
	r.end(err)
	settled := r.s.leave(r.id)
	if settled == nil {
		return
	}
	r.mu.Lock()
	r.settled = settled
	r.mu.Unlock()
	_, _ = r.s.w.Message(Header{Type: Cancel, ID: r.id}, nil, nil)
}

// Settled is closed once the other side is done with a stream that was closed, or cut off, before its end.
// It is nil for a stream that ended by itself.
func (r *streamReader) Settled() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settled
}

// StreamWriter sends a streamed answer. Its methods may be used by one goroutine at a time.
type StreamWriter struct {
	in *Incoming

	mu     sync.Mutex
	credit int64
	more   chan struct{} // has room for one wake-up, so that the session's reader never waits
	closed bool
}

// grant adds credit. It reports false if the sum is more than any window.
func (w *StreamWriter) grant(n uint32) bool {
	w.mu.Lock()
	w.credit += int64(n)
	ok := w.credit <= 1<<32
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
	return ok
}

// take waits for credit and returns how many of want bytes may go.
func (w *StreamWriter) take(want int) (int, error) {
	for {
		w.mu.Lock()
		n := int(min(w.credit, int64(want), MaxPayload))
		w.credit -= int64(n)
		w.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		ctx := w.in.Context()
		select {
		case <-w.more:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// Write sends p at once, in as many frames as the reader's credit takes, and waits for credit. It returns
// the context's cause when the caller is gone.
func (w *StreamWriter) Write(p []byte) (int, error) {
	if w.closed {
		return 0, fmt.Errorf("write stream: %w", io.ErrClosedPipe)
	}
	sent := 0
	for sent < len(p) {
		if err := w.in.ctx.Err(); err != nil {
			return sent, fmt.Errorf("write stream: %w", context.Cause(w.in.Context()))
		}
		n, err := w.take(len(p) - sent)
		if err != nil {
			return sent, fmt.Errorf("write stream: %w", err)
		}
		if err := w.chunk(p[sent:sent+n], 0); err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}

// Close ends the stream well. Idempotent.
func (w *StreamWriter) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	defer w.in.release()
	return w.chunk(nil, FlagEnd)
}

// Fail ends the stream with an error that the reader gets from Read as a *Failure.
func (w *StreamWriter) Fail(f *Failure) error {
	if w.closed {
		return nil
	}
	w.closed = true
	defer w.in.release()
	return w.in.send(Header{Type: ErrorReply, ID: w.in.id}, nil, f.AppendTo(nil))
}

func (w *StreamWriter) chunk(p []byte, flags Flags) error {
	return w.in.send(Header{Type: Chunk, Flags: flags | FlagAnswer, ID: w.in.id}, nil, p)
}
