package api

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/covey-dev/covey/node/client/wire"
)

// requestID returns the id that the caller chose, if it is a valid one, or a
// fresh one. An invalid one is replaced rather than refused: callers behind
// proxies cannot always help what is added to their requests.
func requestID(r *http.Request) string {
	if id := header(r, wire.HeaderRequestID); id != "" && wire.ValidRequestID(id) {
		return id
	}
	return newID()
}

// newID returns a ULID. The randomness need not be secret, only different on
// all nodes: knowing an id opens nothing.
func newID() string {
	var id ulid.ULID
	_ = id.SetTime(uint64(time.Now().UnixMilli())) // fails in the year 10889
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		id[6+i] = byte(hi >> (8 * i))
	}
	id[14], id[15] = byte(lo), byte(lo>>8)
	var text [ulid.EncodedSize]byte
	_ = id.MarshalTextTo(text[:]) // fails for a short buffer only
	return string(text[:])
}

// header returns the first value of a header whose name is given in canonical
// form; http.Header.Get would check that on each call.
func header(r *http.Request, canonical string) string {
	if v := r.Header[canonical]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// plainPath reports whether a path means what it looks like: no empty and no
// dot segments, no control characters. ServeMux would answer those with a
// redirect, which turns a POST into a GET in many clients.
func plainPath(u *url.URL) bool {
	p := u.Path
	if p == "" || p[0] != '/' {
		return p == "*"
	}
	for i := range len(p) {
		switch c := p[i]; {
		case c < ' ' || c == 0x7f:
			return false
		case c == '/' && i+1 < len(p):
			next := p[i+1]
			if next == '/' || next == '.' && dotSegment(p[i+1:]) {
				return false
			}
		}
	}
	return true
}

// dotSegment reports whether p starts with a segment "." or "..".
func dotSegment(p string) bool {
	for i := range len(p) {
		switch {
		case p[i] == '/':
			return true
		case p[i] != '.' || i > 1:
			return false
		}
	}
	return true
}
