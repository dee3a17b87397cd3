package frame

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"time"
)

const (
	// keepBuffer is the largest write buffer that an idle Writer keeps; it has two.
	keepBuffer = 16 << 10
	// yieldBelow is how much must be buffered for a flusher not to wait for more.
	yieldBelow = 32 << 10
	// directBody is the least body that a direct writer sends from the caller's memory. Below it one copy
	// costs less than a vectored write.
	directBody = 16 << 10
	// stallTimeout ends a connection whose peer has read nothing for so long. It guards callers of
	// connections that cannot write without waiting (TLS); a healthy peer always reads.
	stallTimeout = 10 * time.Second
)

// errEOF is io.EOF under a name that does not read like a comparison.
var errEOF = io.EOF

// Writer sends frames on one connection for many goroutines. The first to come becomes the flusher and
// writes for all who come while it is writing, so that under load one system call carries many frames.
//
// On a [Socket] no caller waits for a peer that does not read: what does not fit is left to a goroutine of
// the Writer, which Wait waits for. On other connections the flusher waits, for ten seconds at most.
type Writer struct {
	conn   net.Conn
	socket *Socket // conn if it can write without waiting, or nil
	pool   *Pool
	direct bool // see SessionConfig.Direct
	wg     sync.WaitGroup
	// busy reports whether other callers are likely to have frames soon, in which case the flusher lets
	// them run before it writes.
	busy func() bool
	// failed is told the error that ended the Writer, without any lock held. It must be idempotent.
	failed func(error)

	mu       sync.Mutex
	idle     sync.Cond // signalled when flushing becomes false
	buf      *Buffer   // frames accepted but not taken by a flusher
	spare    *Buffer   // the buffer of the last flush, or nil
	files    []sentFile
	flushing bool
	err      error
	accepted uint64 // bytes of all frames accepted so far
	flushed  uint64 // bytes that the connection took
	deadline time.Time
}

// sentFile is a descriptor that travels with the n bytes at off of the buffer.
type sentFile struct {
	off, n int
	file   *os.File
}

// NewWriter returns a Writer on conn with buffers from pool. direct is SessionConfig.Direct.
func NewWriter(conn net.Conn, pool *Pool, direct bool) *Writer {
	w := &Writer{conn: conn, pool: pool, direct: direct, buf: pool.empty(0)}
	w.socket, _ = conn.(*Socket)
	w.idle.L = &w.mu
	return w
}

// Message sends a frame with head and body, or several if the body is large; h needs only Type, Flags and
// ID. The result is the message's end in the stream, for [Writer.Sent]. An error means that the connection
// failed, now or before, or wraps [ErrTooLarge] when nothing was sent.
func (w *Writer) Message(h Header, head Appender, body []byte) (end uint64, err error) {
	w.mu.Lock()
	if w.err != nil {
		err := w.err
		w.mu.Unlock()
		return w.never(), err
	}
	if w.direct && len(body) >= directBody {
		return w.messageDirect(h, head, body)
	}
	before := len(w.buf.b)
	w.buf = w.pool.grow(w.buf, messageSize(len(body)))
	if w.buf.b, err = appendMessage(w.buf.b, h, head, body); err != nil {
		w.mu.Unlock()
		return w.never(), err
	}
	w.accepted += uint64(len(w.buf.b) - before)
	end = w.accepted
	return end, w.flushLocked()
}

// File sends a frame without payload that carries a descriptor, and closes the file when it was sent or
// cannot be. Only a Writer on a [Socket] can.
func (w *Writer) File(h Header, f *os.File) error {
	w.mu.Lock()
	if w.err != nil || w.socket == nil {
		err := w.err
		w.mu.Unlock()
		_ = f.Close()
		if err == nil {
			err = fmt.Errorf("send descriptor: %T cannot carry one", w.conn)
		}
		return err
	}
	w.files = append(w.files, sentFile{off: len(w.buf.b), n: HeaderSize, file: f})
	w.buf = w.pool.grow(w.buf, HeaderSize)
	w.buf.b = h.AppendTo(w.buf.b)
	w.accepted += HeaderSize
	return w.flushLocked()
}

// never is an end that is never reached.
func (w *Writer) never() uint64 { return 1<<64 - 1 }

// Sent reports whether everything up to end went into the connection. It must only be asked after a write
// has failed or the connection was closed, because it waits for the write that may be under way.
func (w *Writer) Sent(end uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.flushing {
		w.idle.Wait()
	}
	return w.flushed >= end
}

// Fail makes all later writes fail with err.
func (w *Writer) Fail(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.mu.Unlock()
}

// Wait returns when no goroutine of the Writer is left. Fail must have been called and the connection closed.
func (w *Writer) Wait() {
	// While somebody flushes, a goroutine may yet begin; afterwards none can, because writing has failed.
	w.Sent(0)
	w.wg.Wait()
}

// flushLocked writes what is buffered unless somebody does already. It unlocks.
func (w *Writer) flushLocked() error {
	if w.flushing {
		w.mu.Unlock()
		return nil
	}
	w.flushing = true
	if len(w.buf.b) < yieldBelow && w.busy != nil && w.busy() {
		// Callers that are about to send get the chance to share this system call.
		w.mu.Unlock()
		runtime.Gosched()
		w.mu.Lock()
	}
	for len(w.buf.b) > 0 && w.err == nil {
		buf, files := w.takeLocked()
		w.mu.Unlock()
		if len(files) > 0 {
			w.wg.Go(func() { w.finish(buf, 0, files) })
			return nil
		}
		n, err := w.write(buf.b)
		if err == nil && n < len(buf.b) {
			w.add(n)
			w.wg.Go(func() { w.finish(buf, n, nil) })
			return nil
		}
		w.mu.Lock()
		w.settleLocked(buf, n, err)
	}
	return w.stopLocked()
}

// finish writes a buffer from off on, waiting for the peer, and then what came meanwhile. It ends when
// nothing is left or the connection is closed.
func (w *Writer) finish(buf *Buffer, off int, files []sentFile) {
	for {
		n, err := w.writeAll(buf.b[off:], files)
		w.mu.Lock()
		w.settleLocked(buf, n, err)
		if len(w.buf.b) == 0 || w.err != nil {
			_ = w.stopLocked()
			return
		}
		buf, files = w.takeLocked()
		off = 0
		w.mu.Unlock()
	}
}

// takeLocked hands the buffered frames to the flusher.
func (w *Writer) takeLocked() (*Buffer, []sentFile) {
	buf, files := w.buf, w.files
	if w.buf, w.spare = w.spare, nil; w.buf == nil {
		w.buf = w.pool.empty(0)
	}
	w.files = nil
	return buf, files
}

// settleLocked counts n bytes of buf as written and keeps the buffer, or returns it if it is large.
func (w *Writer) settleLocked(buf *Buffer, n int, err error) {
	w.flushed += uint64(n)
	if cap(buf.b) <= keepBuffer && w.spare == nil {
		buf.b = buf.b[:0]
		w.spare = buf
	} else {
		buf.Release()
	}
	if err != nil && w.err == nil {
		w.err = err
	}
}

func (w *Writer) add(n int) {
	w.mu.Lock()
	w.flushed += uint64(n)
	w.mu.Unlock()
}

// stopLocked ends the flusher's turn and unlocks.
func (w *Writer) stopLocked() error {
	w.flushing = false
	err := w.err
	if err != nil {
		for _, f := range w.files {
			_ = f.file.Close()
		}
		w.files = nil
	}
	w.idle.Broadcast()
	w.mu.Unlock()
	if err != nil && w.failed != nil {
		w.failed(err)
	}
	return err
}

// write sends b; on a socket perhaps less of it, instead of waiting.
func (w *Writer) write(b []byte) (int, error) {
	if w.socket != nil {
		return w.socket.TryWrite(b)
	}
	if err := w.extend(len(b)); err != nil {
		return 0, err
	}
	return w.conn.Write(b)
}

// extend moves the write deadline if little is left of it; moving it on every write would cost more than the
// accuracy is worth. A large write gets longer: no useful connection is slower than 64 KiB/s. Only the
// flusher is here, so deadline needs no lock.
func (w *Writer) extend(size int) error {
	now := time.Now()
	more := time.Duration(size>>16) * time.Second
	if w.deadline.Sub(now) >= stallTimeout/2+more {
		return nil
	}
	w.deadline = now.Add(stallTimeout + more)
	if err := w.conn.SetWriteDeadline(w.deadline); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	return nil
}

func (w *Writer) writeAll(b []byte, files []sentFile) (n int, err error) {
	for i, f := range files {
		if err == nil {
			n, err = w.writeWithFile(b, n, f)
		}
		_ = files[i].file.Close()
	}
	if err != nil || n == len(b) {
		return n, err
	}
	m, err := w.conn.Write(b[n:])
	return n + m, err
}

// writeWithFile writes b from n up to the end of f's frame.
func (w *Writer) writeWithFile(b []byte, n int, f sentFile) (int, error) {
	if n < f.off {
		m, err := w.conn.Write(b[n:f.off])
		if n += m; err != nil {
			return n, err
		}
	}
	m, err := w.socket.writeFile(b[f.off:f.off+f.n], f.file)
	if n += m; err == nil && m < f.n {
		m, err = w.conn.Write(b[n : f.off+f.n])
		n += m
	}
	return n, err
}

// messageDirect writes a large message from the caller's memory, after waiting for its turn. It is called
// with the lock held and releases it.
func (w *Writer) messageDirect(h Header, head Appender, body []byte) (uint64, error) {
	for w.flushing && w.err == nil {
		w.idle.Wait()
	}
	if w.err != nil {
		err := w.err
		w.mu.Unlock()
		return w.never(), err
	}
	vector, size, err := vectorMessage(h, head, body)
	if err != nil {
		w.mu.Unlock()
		return w.never(), err
	}
	w.flushing = true
	w.accepted += uint64(size)
	end := w.accepted
	w.mu.Unlock()
	var n int64
	if w.socket == nil {
		err = w.extend(size)
	}
	if err == nil {
		n, err = vector.WriteTo(w.target())
	}
	w.mu.Lock()
	w.flushed += uint64(n)
	if err != nil && w.err == nil {
		w.err = err
	}
	// Small frames of others may have come meanwhile.
	w.flushing = false
	if w.err == nil && len(w.buf.b) > 0 {
		return end, w.flushLocked()
	}
	return end, w.stopLocked()
}

// messageSize estimates the frames of a message with a body of n bytes and a usual head.
func messageSize(n int) int { return n + HeaderSize*(n/MaxPayload+2) + 256 }

// target is where vectors go: net.Buffers needs the bare connection to write them in one system call.
func (w *Writer) target() io.Writer {
	if w.socket != nil {
		return w.socket.UnixConn
	}
	return w.conn
}

// appendMessage appends the frames of one message. If it fails, the result is b unchanged.
func appendMessage(b []byte, h Header, head Appender, body []byte) ([]byte, error) {
	start := len(b)
	b = append(b, make([]byte, HeaderSize)...)
	if head != nil {
		b = head.AppendTo(b)
	}
	n := len(b) - start - HeaderSize
	if n > MaxHead {
		return b[:start], fmt.Errorf("%w: head of %d bytes", ErrTooLarge, n)
	}
	h.Head = uint16(n)
	if n+len(body) <= MaxPayload {
		h.Length = uint32(n + len(body))
		h.AppendTo(b[:start])
		return append(b, body...), nil
	}
	h.Flags |= FlagMore
	h.Length = uint32(n + 8)
	h.AppendTo(b[:start])
	b = binary.LittleEndian.AppendUint64(b, uint64(len(body)))
	for len(body) > 0 {
		c := chunkHeader(h, len(body))
		b = append(c.AppendTo(b), body[:c.Length]...)
		body = body[c.Length:]
	}
	return b, nil
}

// vectorMessage is appendMessage without copying the body.
func vectorMessage(h Header, head Appender, body []byte) (net.Buffers, int, error) {
	first, err := appendMessage(make([]byte, 0, 512), h, head, nil)
	if err != nil {
		return nil, 0, err
	}
	h.Head = uint16(len(first) - HeaderSize)
	size := len(first) + len(body)
	if int(h.Head)+len(body) <= MaxPayload {
		h.Length = uint32(int(h.Head) + len(body))
		h.AppendTo(first[:0])
		return net.Buffers{first, body}, size, nil
	}
	h.Flags |= FlagMore
	h.Length = uint32(h.Head) + 8
	h.AppendTo(first[:0])
	first = binary.LittleEndian.AppendUint64(first, uint64(len(body)))
	size += 8
	vector := net.Buffers{first}
	for len(body) > 0 {
		c := chunkHeader(h, len(body))
		vector = append(vector, c.AppendTo(nil), body[:c.Length])
		body = body[c.Length:]
		size += HeaderSize
	}
	return vector, size, nil
}

// chunkHeader is the header of the next chunk when left bytes of the body remain.
func chunkHeader(first Header, left int) Header {
	c := Header{Type: Chunk, ID: first.ID, Length: uint32(min(left, MaxPayload))}
	if first.Type.endsCall() {
		c.Flags |= FlagAnswer
	}
	if left <= MaxPayload {
		c.Flags |= FlagEnd
	}
	return c
}
