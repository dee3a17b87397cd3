package frame

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Appender encodes a message head. It must not keep b.
type Appender interface {
	AppendTo(b []byte) []byte
}

// Raw is an already encoded head.
type Raw []byte

// AppendTo appends the bytes as they are.
func (r Raw) AppendTo(b []byte) []byte { return append(b, r...) }

// AppendUint appends v in the form that [Decoder.Uint] reads.
func AppendUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// AppendString appends s with its length in front.
func AppendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// AppendDuration appends d in whole microseconds, rounded up so that a short time does not become zero,
// which means none. Negative durations count as zero.
func AppendDuration(b []byte, d time.Duration) []byte {
	if d <= 0 {
		return append(b, 0)
	}
	return binary.AppendUvarint(b, uint64((d+time.Microsecond-1)/time.Microsecond))
}

// Decoder reads the fields of a message in the order in which they were appended. Messages grow at their
// end only: a field that the sender did not know reads as its zero value, and bytes that the reader does
// not know are left over. The first malformed field makes all later reads return zero values and [Decoder.Err]
// tell why, so that a caller checks once.
type Decoder struct {
	rest string
	err  error
}

// NewDecoder returns a Decoder over a copy of head: the strings it returns share that one copy and stay
// valid after the frame's buffer is reused.
func NewDecoder(head []byte) Decoder { return Decoder{rest: string(head)} }

// Err returns the first error, which wraps [ErrProtocol].
func (d *Decoder) Err() error { return d.err }

// Rest returns what has not been read yet.
func (d *Decoder) Rest() string { return d.rest }

// Uint reads an unsigned number.
func (d *Decoder) Uint() uint64 {
	var v uint64
	for i := 0; i < len(d.rest); i++ {
		c := d.rest[i]
		if i == 9 && c > 1 {
			return d.fail("number overflows")
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			d.rest = d.rest[i+1:]
			return v
		}
	}
	if len(d.rest) > 0 {
		return d.fail("number is cut off")
	}
	return 0
}

// String reads a string.
func (d *Decoder) String() string {
	n := d.Uint()
	if n > uint64(len(d.rest)) {
		d.fail("string is cut off")
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

// Duration reads what [AppendDuration] wrote.
func (d *Decoder) Duration() time.Duration {
	const most = uint64(1<<63-1) / uint64(time.Microsecond)
	v := d.Uint()
	if v > most {
		d.fail("duration overflows")
		return 0
	}
	return time.Duration(v) * time.Microsecond
}

func (d *Decoder) fail(why string) uint64 {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrProtocol, why)
	}
	d.rest = ""
	return 0
}

// Attribute is one name and value that travels beside a body.
type Attribute struct{ Name, Value string }

// Attributes are pairs in the order in which they were set. Names are compared exactly.
type Attributes []Attribute

// Get returns the first value of that name, or "".
func (a Attributes) Get(name string) string {
	for i := range a {
		if a[i].Name == name {
			return a[i].Value
		}
	}
	return ""
}

// AppendAttributes appends the pairs with their count in front.
func AppendAttributes(b []byte, a Attributes) []byte {
	b = AppendUint(b, uint64(len(a)))
	for i := range a {
		b = AppendString(AppendString(b, a[i].Name), a[i].Value)
	}
	return b
}

// Attributes reads what [AppendAttributes] wrote.
func (d *Decoder) Attributes() Attributes {
	n := d.Uint()
	if n == 0 {
		return nil
	}
	// A pair takes two bytes at least, so the count cannot ask for more memory than the message has.
	if n > uint64(len(d.rest)/2) {
		d.fail("attributes are cut off")
		return nil
	}
	a := make(Attributes, 0, n)
	for range n {
		a = append(a, Attribute{Name: d.String(), Value: d.String()})
	}
	return a
}
