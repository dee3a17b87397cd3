//go:build linux && (amd64 || arm64)

package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"
)

// The stage is the program between the launcher and a function's code: a few
// hundred bytes of assembly that read a script (script.go) and perform its
// system calls one by one. It exists because two jobs can be done by nobody
// else:
//
//   - Between clone and exec, a child of a Go program may run no Go code, and
//     what syscall.ForkExec offers there (no mounts, no limits before the uid
//     drop, no filter) is too little. With a script the policy stays in Go, as
//     data that a test can read, and the part that cannot be Go has no policy.
//   - A pid namespace needs a process 1 that reaps orphans and takes the others
//     with it. A function should not be process 1: the kernel drops signals
//     with default action there (SIGTERM, SIGABRT would do nothing), and zombies
//     of its grandchildren would pile up. A stage that waits costs two pages.
//
// The assembly is position-independent, so stageELF lifts it out of the daemon's
// own text and wraps it in an ELF header: no compiler, no blob in the repository,
// no second file to install.

// stage is never called: it is the text that stageELF copies.
//
//lint:ignore U1000 the assembly needs the declaration
func stage()

// stageAddr returns the address of stage's first instruction. (The Go value of
// an assembly function is the address of a wrapper.)
func stageAddr() unsafe.Pointer

// stageEnd follows the last instruction of stage.
const stageEnd = "CoveyEnd"

const (
	stageBase = 0x400000 // where the text is mapped
	stageMax  = 1024     // more than the text will ever have
	pageAlign = 0x10000  // the largest page size of the supported machines
)

// stageELF returns a static executable made of stage.
func stageELF() ([]byte, error) {
	text := unsafe.Slice((*byte)(stageAddr()), stageMax)
	n := bytes.Index(text, []byte(stageEnd))
	if n < 0 {
		return nil, fmt.Errorf("%w: stage has no end mark", ErrUnsupported)
	}
	const headers = 64 + 3*56
	machine := map[string]uint16{"amd64": 62, "arm64": 183}[runtime.GOARCH]

	var f elfWriter
	f.bytes([]byte("\x7fELF\x02\x01\x01"))
	f.bytes(make([]byte, 9))
	f.u16(2, machine) // ET_EXEC
	f.u32(1)
	f.u64(stageBase+headers, 64, 0) // entry, program headers, no sections
	f.u32(0)
	f.u16(64, 56, 3, 0, 0, 0)
	size := uint64(headers + n)
	f.program(1, 5, stageBase, size, size)     // text: read, execute
	f.program(1, 6, scriptBase, 0, scriptSize) // script: read, write, zeroed
	f.program(0x6474e551, 6, 0, 0, 0)          // GNU_STACK: not executable
	f.bytes(text[:n])
	return f.buf, nil
}

// elfWriter appends little-endian fields; both supported machines are so.
type elfWriter struct{ buf []byte }

func (w *elfWriter) bytes(b []byte) { w.buf = append(w.buf, b...) }

func (w *elfWriter) u16(vs ...uint16) {
	for _, v := range vs {
		w.buf = binary.LittleEndian.AppendUint16(w.buf, v)
	}
}

func (w *elfWriter) u32(v uint32) { w.buf = binary.LittleEndian.AppendUint32(w.buf, v) }

func (w *elfWriter) u64(vs ...uint64) {
	for _, v := range vs {
		w.buf = binary.LittleEndian.AppendUint64(w.buf, v)
	}
}

// program appends a program header whose content, if any, starts at the file's
// first byte.
func (w *elfWriter) program(kind, flags uint32, addr, fileSize, memSize uint64) {
	w.u32(kind)
	w.u32(flags)
	w.u64(0, addr, addr, fileSize, memSize, pageAlign)
}
