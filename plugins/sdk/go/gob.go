package covey

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// This file speaks as much of encoding/gob as go-plugin's net/rpc needs: a handful of fixed types. The real
// package costs every cold start four tenths of a millisecond and a megabyte of binary, for a connection that most
// instances see once. A test holds it against the real one.

// gob's numbers for its basic types, and the ones that this side gives its own.
const (
	gobBool, gobUint, gobBytes, gobString = 1, 3, 5, 6
	gobResponse, gobEmpty                 = 64, 65
)

// The definitions of the two types of this side: net/rpc's Response, and a struct without fields.
const (
	gobResponseType = "9\x7f\x03\x01\x01\bResponse\x01\xff\x80\x00\x01\x03\x01\rServiceMethod\x01\f\x00\x01\x03Seq\x01\x06\x00\x01\x05Error\x01\f\x00\x00\x00"
	gobEmptyType    = "\n\xff\x81\x03\x01\x02\xff\x82\x00\x00\x00"
)

// maxGob bounds one value; the data plane is there for more.
const maxGob = 64 << 20

var errGob = errors.New("malformed gob")

// gobWriter encodes values on one stream.
type gobWriter struct {
	w       io.Writer
	out     []byte
	defined [2]bool // whether the types of this side were sent
}

// define appends a type's definition before its first value.
func (g *gobWriter) define(id int, definition string) {
	if i := id - gobResponse; !g.defined[i] {
		g.defined[i] = true
		g.out = append(g.out, definition...)
	}
}

// message appends one value with its length in front. The value of a type that is no struct follows a zero.
func (g *gobWriter) message(id int, value []byte) {
	body := appendGobUint(nil, uint64(id)<<1)
	if id < gobResponse {
		body = append(body, 0)
	}
	body = append(body, value...)
	g.out = append(appendGobUint(g.out, uint64(len(body))), body...)
}

// response appends net/rpc's header. Fields that are zero are left out, and each names its distance to the last.
func (g *gobWriter) response(method string, seq uint64, failure string) {
	g.define(gobResponse, gobResponseType)
	var b []byte
	last := -1
	field := func(n int, value []byte) {
		b = append(append(b, byte(n-last)), value...)
		last = n
	}
	if method != "" {
		field(0, appendGobBytes(nil, method))
	}
	if seq != 0 {
		field(1, appendGobUint(nil, seq))
	}
	if failure != "" {
		field(2, appendGobBytes(nil, failure))
	}
	g.message(gobResponse, append(b, 0))
}

// reply appends a method's result: struct{}, uint32 or []byte.
func (g *gobWriter) reply(v any) error {
	switch v := v.(type) {
	case struct{}:
		g.define(gobEmpty, gobEmptyType)
		g.message(gobEmpty, []byte{0})
	case uint32:
		g.message(gobUint, appendGobUint(nil, uint64(v)))
	case []byte:
		g.message(gobBytes, appendGobBytes(nil, v))
	default:
		return fmt.Errorf("encode %T: not a type of this protocol", v)
	}
	return nil
}

// flush writes what was appended.
func (g *gobWriter) flush() error {
	_, err := g.w.Write(g.out)
	g.out = g.out[:0]
	return err
}

// appendGobUint appends a number: one byte below 128, else its length, negated, and its bytes.
func appendGobUint(b []byte, v uint64) []byte {
	if v < 128 {
		return append(b, byte(v))
	}
	var be [8]byte
	binary.BigEndian.PutUint64(be[:], v)
	n := (bits.Len64(v) + 7) / 8
	return append(append(b, byte(-n)), be[8-n:]...)
}

func appendGobBytes[T string | []byte](b []byte, v T) []byte {
	return append(appendGobUint(b, uint64(len(v))), v...)
}

// gobReader decodes values of one stream.
type gobReader struct {
	r *bufio.Reader
}

// next returns the next value with the number of its type. Definitions are skipped: what the types of the
// other side are called and how they are numbered makes no difference.
func (g *gobReader) next() (id uint64, value gobValue, err error) {
	for {
		n, err := readGobUint(g.r)
		if err != nil {
			return 0, nil, err
		}
		if n > maxGob {
			return 0, nil, fmt.Errorf("%w: value of %d bytes", errGob, n)
		}
		value = make(gobValue, n)
		if _, err := io.ReadFull(g.r, value); err != nil {
			return 0, nil, err
		}
		id, err := value.uint()
		if err != nil {
			return 0, nil, err
		}
		if id&1 == 0 { // A negative number announces a definition.
			return id >> 1, value, nil
		}
	}
}

// request reads net/rpc's header.
func (g *gobReader) request() (method string, seq uint64, err error) {
	id, v, err := g.next()
	if err != nil {
		return "", 0, err
	}
	if id < gobResponse {
		return "", 0, fmt.Errorf("%w: a header of type %d", errGob, id)
	}
	for field := -1; ; {
		delta, err := v.uint()
		if err != nil || delta == 0 {
			return method, seq, err
		}
		switch field += int(min(delta, 3)); field {
		case 0:
			var b []byte
			b, err = v.bytes()
			method = string(b)
		case 1:
			seq, err = v.uint()
		default:
			err = fmt.Errorf("%w: a header with %d fields", errGob, field+1)
		}
		if err != nil {
			return "", 0, err
		}
	}
}

// argument reads a value into a *bool, *string or *[]byte; nil skips it.
func (g *gobReader) argument(to any) error {
	id, v, err := g.next()
	if err != nil || to == nil {
		return err
	}
	if zero, err := v.uint(); err != nil || zero != 0 {
		return fmt.Errorf("%w: argument of type %d", errGob, id)
	}
	switch to := to.(type) {
	case *bool:
		if id == gobBool {
			n, err := v.uint()
			*to = n != 0
			return err
		}
	case *string:
		if id == gobString {
			b, err := v.bytes()
			*to = string(b)
			return err
		}
	case *[]byte:
		if id == gobBytes {
			*to, err = v.bytes()
			return err
		}
	}
	return fmt.Errorf("%w: argument of type %d for %T", errGob, id, to)
}

// gobValue is the rest of a value.
type gobValue []byte

func (v *gobValue) ReadByte() (byte, error) {
	if len(*v) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	b := (*v)[0]
	*v = (*v)[1:]
	return b, nil
}

func (v *gobValue) uint() (uint64, error) { return readGobUint(v) }

func (v *gobValue) bytes() ([]byte, error) {
	n, err := v.uint()
	if err != nil {
		return nil, err
	}
	if n > uint64(len(*v)) {
		return nil, fmt.Errorf("%w: %d bytes of %d", errGob, len(*v), n)
	}
	b := (*v)[:n]
	*v = (*v)[n:]
	return b, nil
}

func readGobUint(r io.ByteReader) (uint64, error) {
	b, err := r.ReadByte()
	if err != nil || b < 128 {
		return uint64(b), err
	}
	n := -int(int8(b))
	if n > 8 {
		return 0, fmt.Errorf("%w: number of %d bytes", errGob, n)
	}
	var v uint64
	for range n {
		if b, err = r.ReadByte(); err != nil {
			return 0, err
		}
		v = v<<8 | uint64(b)
	}
	return v, nil
}
