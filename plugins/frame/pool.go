package frame

import (
	"math/bits"
	"sync"
)

const (
	leastClass    = 9  // 512 B: the usual head and a small body
	greatestClass = 23 // 8 MiB: the default largest body and some
)

// Pool keeps buffers for reuse, by powers of two. Its zero value is ready, it is safe for concurrent use,
// and the garbage collector empties it. Sessions of one process share one, because idle connections would
// otherwise each keep their own.
type Pool struct {
	classes [greatestClass - leastClass + 1]sync.Pool
	calls   sync.Pool
}

// Buffer is a byte slice with one owner, who releases it.
type Buffer struct {
	b    []byte
	pool *Pool
}

// Get returns a buffer of n bytes with arbitrary content.
func (p *Pool) Get(n int) *Buffer {
	class := max(bits.Len(uint(max(n, 1)-1)), leastClass)
	if class > greatestClass {
		return &Buffer{b: make([]byte, n)}
	}
	if buf, ok := p.classes[class-leastClass].Get().(*Buffer); ok {
		buf.b = buf.b[:n]
		return buf
	}
	return &Buffer{b: make([]byte, n, 1<<class), pool: p}
}

// empty returns a buffer of length zero with room for n bytes.
func (p *Pool) empty(n int) *Buffer {
	buf := p.Get(n)
	buf.b = buf.b[:0]
	return buf
}

// grow returns buf, or a larger one with its content, with room for n more bytes.
func (p *Pool) grow(buf *Buffer, n int) *Buffer {
	if cap(buf.b)-len(buf.b) >= n {
		return buf
	}
	larger := p.empty(max(len(buf.b)+n, 2*cap(buf.b)))
	larger.b = append(larger.b, buf.b...)
	buf.Release()
	return larger
}

// Bytes returns the content, which is valid until Release. A nil buffer has none.
func (b *Buffer) Bytes() []byte {
	if b == nil {
		return nil
	}
	return b.b
}

// Release gives the buffer back. The caller must not touch its bytes afterwards. A nil buffer is fine.
func (b *Buffer) Release() {
	if b == nil || b.pool == nil {
		return
	}
	class := bits.Len(uint(cap(b.b) - 1))
	if cap(b.b) != 1<<class || class > greatestClass {
		return // Grown by an append; it fits no class.
	}
	b.pool.classes[class-leastClass].Put(b)
}
