package checkpoint

import (
	"encoding/binary"
	"errors"
)

// errTruncated is the error of a module that ends too early.
var errTruncated = errors.New("the module is cut off")

// reader reads the binary format. After its first error it returns zeros.
type reader struct {
	b   []byte
	at  int
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.at = len(r.b)
}

func (r *reader) done() bool { return r.at >= len(r.b) }

func (r *reader) byte() byte {
	if r.done() {
		r.fail(errTruncated)
		return 0
	}
	c := r.b[r.at]
	r.at++
	return c
}

// skip passes over n bytes and returns them.
func (r *reader) skip(n uint64) []byte {
	if n > uint64(len(r.b)-r.at) {
		r.fail(errTruncated)
		return nil
	}
	b := r.b[r.at : r.at+int(n)]
	r.at += int(n)
	return b
}

// uint reads an unsigned number.
func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b[r.at:])
	if n <= 0 {
		r.fail(errTruncated)
		return 0
	}
	r.at += n
	return v
}

// leb passes over a number, signed or not.
func (r *reader) leb() {
	for r.byte()&0x80 != 0 {
	}
}

// bytes reads a length and so many bytes.
func (r *reader) bytes() []byte { return r.skip(r.uint()) }
