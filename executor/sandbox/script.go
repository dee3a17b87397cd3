//go:build linux && (amd64 || arm64)

package sandbox

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Layout of a script in the stage's memory; the assembly knows it too. A header
// (the descriptor for reports, then room for one report), the steps, the data.
const (
	scriptBase   = 0x10000000
	scriptSize   = 4 << 20
	scriptHeader = 64
	stepSize     = 80
	stepsMax     = 256
	dataOffset   = scriptHeader + stepsMax*stepSize
	// orderBase is where a parked stage reads its second script (park.go).
	orderBase = scriptBase + scriptSize/2
)

// step is one system call. The stage performs the steps in order; a failing one
// is reported and ends the process, unless it is optional.
type step struct {
	name     string // for SetupError
	nr       uintptr
	args     [6]uintptr
	want     uintptr // when the result is want and target is set, go on there
	target   label
	jump     uintptr // like target, as an address: in another script
	optional bool    // failing is no reason to stop
}

// label is the index of a step plus one, so that the zero value means none.
type label int

// script is a list of system calls and the memory that they point into. It is
// either encoded for the stage or, with newLocalScript, run by the calling
// thread itself.
type script struct {
	steps  []step
	data   []byte
	base   uintptr // address of data[0] where the script runs
	origin uintptr // address of the whole script in the stage's memory
}

func newScript() *script { return newScriptAt(scriptBase) }

// newScriptAt returns a script for a place in the stage's memory.
func newScriptAt(origin uintptr) *script {
	return &script{
		origin: origin, base: origin + dataOffset, data: make([]byte, 0, 8<<10), steps: make([]step, 0, 96),
	}
}

// newLocalScript returns a script for run. Its data must not move while steps
// point into it, hence the capacity, which run checks.
func newLocalScript() *script {
	data := make([]byte, 0, 1<<16)
	return &script{data: data, base: uintptr(unsafe.Pointer(unsafe.SliceData(data)))}
}

// sys appends a step and returns it for further settings, which must be made
// before the next step is appended.
func (s *script) sys(name string, nr uintptr, args ...uintptr) *step {
	st := step{name: name, nr: nr}
	copy(st.args[:], args)
	s.steps = append(s.steps, st)
	return &s.steps[len(s.steps)-1]
}

// next returns the label of the step that will be appended next.
func (s *script) next() label { return label(len(s.steps) + 1) }

// put places b in the script's memory, aligned for any C type, and returns its
// address there.
func (s *script) put(b []byte) uintptr {
	for len(s.data)%8 != 0 {
		s.data = append(s.data, 0)
	}
	at := s.base + uintptr(len(s.data))
	s.data = append(s.data, b...)
	return at
}

// str places a C string.
func (s *script) str(v string) uintptr {
	b := make([]byte, len(v)+1)
	copy(b, v)
	return s.put(b)
}

// strs places a null-terminated vector of C strings, as execve wants it.
func (s *script) strs(vs []string) uintptr {
	table := make([]byte, 0, 8*len(vs)+8)
	for _, v := range vs {
		table = binary.LittleEndian.AppendUint64(table, uint64(s.str(v)))
	}
	return s.put(binary.LittleEndian.AppendUint64(table, 0))
}

// words places 64-bit values: the layout of most kernel structures used here.
func (s *script) words(vs ...uint64) uintptr {
	var b []byte
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return s.put(b)
}

// encode returns the bytes that the stage reads. Reports go to the descriptor
// report of the stage's process.
func (s *script) encode(report int) ([]byte, error) {
	if len(s.steps) > stepsMax || dataOffset+len(s.data) > scriptSize/2 {
		return nil, fmt.Errorf("arguments, environment and paths are too long: %w", unix.E2BIG)
	}
	out := make([]byte, dataOffset, dataOffset+len(s.data))
	binary.LittleEndian.PutUint64(out, uint64(report))
	for i, st := range s.steps {
		at := out[scriptHeader+i*stepSize:]
		word := func(n int, v uintptr) { binary.LittleEndian.PutUint64(at[8*n:], uint64(v)) }
		word(0, st.nr)
		for k, a := range st.args {
			word(1+k, a)
		}
		word(7, st.want)
		if st.target != 0 {
			word(8, s.at(st.target))
		}
		if st.jump != 0 {
			word(8, st.jump)
		}
		if st.optional {
			word(9, 1)
		}
	}
	return append(out, s.data...), nil
}

// at returns the address of a step in the stage's memory.
func (s *script) at(l label) uintptr { return s.origin + scriptHeader + uintptr(l-1)*stepSize }

// failure turns a report of the stage into an error.
func (s *script) failure(report []byte) error {
	at := binary.LittleEndian.Uint64(report)
	errno := unix.Errno(-int64(binary.LittleEndian.Uint64(report[8:])))
	i := (int(at) - int(s.at(1))) / stepSize
	if i < 0 || i >= len(s.steps) {
		return fmt.Errorf("report of the stage names no step: %w", errno)
	}
	return &SetupError{Step: s.steps[i].name, Errno: errno}
}

// run performs the steps on the calling thread; only for local scripts, without
// jumps.
func (s *script) run() error {
	if uintptr(unsafe.Pointer(unsafe.SliceData(s.data))) != s.base {
		return fmt.Errorf("paths of the root file system are too long: %w", unix.E2BIG)
	}
	for _, st := range s.steps {
		a := st.args
		_, _, errno := unix.RawSyscall6(st.nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno != 0 && !st.optional {
			return &SetupError{Step: st.name, Errno: errno}
		}
	}
	return nil
}
