package api

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
)

// scratch is the memory of one invocation that is used again by a later one:
// the request as the path takes it, a small body, and text being built.
type scratch struct {
	req   attributed
	small [smallBody]byte
	text  []byte
}

// smallBody is the largest body that lives in the scratch. Larger ones come
// from buffers, so that one large call does not make every scratch large.
const smallBody = 8 << 10

// Buffers come in classes of powers of two between these.
const (
	leastClass    = 14 // 16 KiB
	greatestClass = 24 // 16 MiB
)

// buffers pools large bodies by size.
type buffers struct {
	classes [greatestClass - leastClass + 1]sync.Pool // of *[]byte
}

// class returns the pool for n bytes, or -1 when n is too large to keep.
func class(n int64) int {
	for c := range greatestClass - leastClass + 1 {
		if n <= 1<<(leastClass+c) {
			return c
		}
	}
	return -1
}

// get returns a buffer of exactly n bytes whose content is undefined.
func (b *buffers) get(n int64) []byte {
	c := class(n)
	if c < 0 {
		return make([]byte, n)
	}
	if p, ok := b.classes[c].Get().(*[]byte); ok {
		return (*p)[:n]
	}
	return make([]byte, n, 1<<(leastClass+c))
}

// put gives back what get returned. Smaller or foreign slices are left alone.
func (b *buffers) put(buf []byte) {
	n := int64(cap(buf))
	c := class(n)
	if c < 0 || n != 1<<(leastClass+c) {
		return
	}
	b.classes[c].Put(&buf)
}

var (
	errBodyCut  = &requestError{status: http.StatusBadRequest, code: wire.CodeBadRequest, detail: "the body ends before its stated length"}
	errBodySlow = &requestError{status: http.StatusRequestTimeout, code: wire.CodeRequestTimeout, detail: "the body did not arrive in time"}
	errBodyBad  = &requestError{status: http.StatusBadRequest, code: wire.CodeBadRequest, detail: "the body is malformed"}
)

// readBody reads the whole body into sc or a pooled buffer. It refuses a body
// over the limit before reading it when the length is known, so that a client
// that waits for "100 Continue" never sends it.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, sc *scratch) ([]byte, error) {
	n := r.ContentLength
	switch {
	case n == 0:
		readUntil(w, time.Time{})
		return nil, nil
	case n > s.cfg.MaxBody:
		return nil, &http.MaxBytesError{Limit: s.cfg.MaxBody}
	case n < 0:
		return s.readChunked(w, r, sc)
	}
	if n > slowest {
		readUntil(w, time.Now().Add(s.cfg.BodyTimeout+perByte(n)))
	}
	body := sc.small[:min(n, smallBody)]
	if n > smallBody {
		body = s.buffers.get(n)
	}
	if _, err := io.ReadFull(r.Body, body); err != nil {
		s.buffers.put(body)
		return nil, bodyError(err)
	}
	readUntil(w, time.Time{})
	return body, nil
}

// readChunked reads a body of unknown length, doubling as it goes.
func (s *Server) readChunked(w http.ResponseWriter, r *http.Request, sc *scratch) ([]byte, error) {
	readUntil(w, time.Now().Add(s.cfg.BodyTimeout+perByte(s.cfg.MaxBody)))
	body := sc.small[:]
	filled := 0
	for {
		if filled == len(body) {
			if int64(filled) > s.cfg.MaxBody {
				s.buffers.put(body)
				return nil, &http.MaxBytesError{Limit: s.cfg.MaxBody}
			}
			larger := s.buffers.get(min(2*int64(filled), s.cfg.MaxBody+1))
			copy(larger, body[:filled])
			s.buffers.put(body)
			body = larger
		}
		n, err := r.Body.Read(body[filled:])
		filled += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.buffers.put(body)
			return nil, bodyError(err)
		}
	}
	if int64(filled) > s.cfg.MaxBody {
		s.buffers.put(body)
		return nil, &http.MaxBytesError{Limit: s.cfg.MaxBody}
	}
	readUntil(w, time.Time{})
	return body[:filled], nil
}

// bodyError tells the ways a body fails to arrive apart.
func bodyError(err error) error {
	if timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && timeout.Timeout() {
		return errBodySlow
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errBodyCut
	}
	return errBodyBad
}
