package frame

import (
	"bufio"
	"fmt"
	"io"
)

// readBuffer is large enough for dozens of small frames per system call, and small enough that a thousand
// idle instances cost sixteen megabytes.
const readBuffer = 16 << 10

// Reader takes frames off a byte stream. It is not safe for concurrent use. Each frame is read by
// [Reader.Next], or by [Reader.Header] followed by [Reader.Payload] into memory of the caller's choice.
type Reader struct {
	r    *bufio.Reader
	pool *Pool
	left int // bytes of the current frame's payload that nobody has taken yet
}

// NewReader returns a Reader on r with buffers from pool.
func NewReader(r io.Reader, pool *Pool) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, readBuffer), pool: pool}
}

// Next reads a whole frame. The caller releases the buffer.
func (r *Reader) Next() (Header, *Buffer, error) {
	h, err := r.Header()
	if err != nil {
		return Header{}, nil, err
	}
	buf := r.pool.Get(int(h.Length))
	if err := r.Payload(buf.Bytes()); err != nil {
		buf.Release()
		return Header{}, nil, err
	}
	return h, buf, nil
}

// Header reads the next frame's header and skips what was left of the last frame. At a clean end of the
// stream it returns io.EOF, inside a frame io.ErrUnexpectedEOF.
func (r *Reader) Header() (Header, error) {
	if r.left > 0 {
		n := r.left
		r.left = 0
		if _, err := r.r.Discard(n); err != nil {
			return Header{}, unexpected(err)
		}
	}
	b, err := r.r.Peek(HeaderSize)
	if err != nil {
		if len(b) > 0 {
			err = unexpected(err)
		}
		return Header{}, err
	}
	h, err := ParseHeader(b)
	if err != nil {
		return Header{}, err
	}
	// Cannot fail: the bytes were just peeked at.
	_, _ = r.r.Discard(HeaderSize)
	r.left = int(h.Length)
	return h, nil
}

// Payload reads the next len(p) bytes of the current frame's payload.
func (r *Reader) Payload(p []byte) error {
	if len(p) > r.left {
		return fmt.Errorf("%w: %d bytes wanted, the frame has %d", ErrProtocol, len(p), r.left)
	}
	n, err := io.ReadFull(r.r, p)
	r.left -= n
	return unexpected(err)
}

// unexpected turns an end of the stream inside a frame into the error that says so.
func unexpected(err error) error {
	if err == io.EOF { //nolint:errorlint // io.Reader promises the bare value.
		return io.ErrUnexpectedEOF
	}
	return err
}
