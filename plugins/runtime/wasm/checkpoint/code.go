package checkpoint

import (
	"encoding/binary"
)

// check is the instructions of one checkpoint: count down, and at zero begin anew and call the host.
func (w *rewriter) check() []byte {
	const (
		globalGet, globalSet = 0x23, 0x24
		i32Const, i32Sub     = 0x41, 0x6B
		i32Eqz               = 0x45
		ifThen, noResult     = 0x04, 0x40
	)
	counter := binary.AppendUvarint(nil, w.global)
	out := append([]byte{globalGet}, counter...)
	out = append(out, i32Const, 1, i32Sub, globalSet)
	out = append(out, counter...)
	out = append(append(out, globalGet), counter...)
	out = append(out, i32Eqz, ifThen, noResult, i32Const)
	out = appendSigned(out, Every)
	out = append(append(out, globalSet), counter...)
	out = binary.AppendUvarint(append(out, opCall), w.imported)
	return append(out, opEnd)
}

// code rewrites the functions.
func (w *rewriter) code(r *reader) []byte {
	n := r.uint()
	out := binary.AppendUvarint(make([]byte, 0, len(r.b)+len(r.b)/4), n)
	check := w.check()
	var body []byte
	for ; n > 0 && r.err == nil; n-- {
		f := &reader{b: r.bytes()}
		body = w.function(body[:0], f, check)
		if f.err != nil {
			r.fail(f.err)
		}
		out = appendBytes(out, body)
	}
	return out
}

// function rewrites one function: its declarations of local variables, then its instructions.
func (w *rewriter) function(out []byte, f *reader, check []byte) []byte {
	for n := f.uint(); n > 0 && f.err == nil; n-- {
		f.leb()  // how many
		f.byte() // of which type
	}
	out = append(out, f.b[:f.at]...)
	if calls(f) {
		out = append(out, check...)
	}
	copied := f.at // everything up to here is in out
	for !f.done() {
		start := f.at
		switch op := f.byte(); op {
		case opCall, opRefFunc:
			out = append(out, f.b[copied:start+1]...)
			out = w.appendFunction(out, f.uint())
			copied = f.at
		case opLoop:
			skipInstruction(f, op)
			out = append(out, f.b[copied:f.at]...)
			out = append(out, check...)
			copied = f.at
		default:
			skipInstruction(f, op)
		}
	}
	return append(out, f.b[copied:]...)
}

// calls tells whether the rest of the function calls others.
func calls(f *reader) bool {
	ahead := *f
	for !ahead.done() {
		switch op := ahead.byte(); op {
		case opCall, opIndirect:
			return true
		case opRefFunc:
			ahead.leb()
		default:
			skipInstruction(&ahead, op)
		}
	}
	// An instruction that is not understood is met again.
	return false
}

// names returns the name section with the new indices of functions, or nil for another custom section. Names are for
// people, so what is wrong with them is left out.
func (w *rewriter) names(body []byte) []byte {
	const name, ofModule, ofFunctions = "name", 0, 1
	r := &reader{b: body}
	if string(r.bytes()) != name {
		return nil
	}
	out := appendBytes(nil, []byte(name))
	for !r.done() && r.err == nil {
		id, part := r.byte(), r.bytes()
		switch id {
		case ofModule:
			out = appendBytes(append(out, id), part)
		case ofFunctions:
			p := &reader{b: part}
			n := p.uint()
			renamed := binary.AppendUvarint(nil, n)
			for ; n > 0 && p.err == nil; n-- {
				renamed = w.appendFunction(renamed, p.uint())
				renamed = appendBytes(renamed, p.bytes())
			}
			if p.err != nil {
				return nil
			}
			out = appendBytes(append(out, id), renamed)
		}
	}
	if r.err != nil {
		return nil
	}
	return out
}
