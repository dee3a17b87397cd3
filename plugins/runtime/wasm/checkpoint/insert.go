package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Every is how many loops and calls a module makes between two calls of its host: enough that the host costs
// nothing, and no more than a fraction of a millisecond.
const Every = 4096

// Version changes when the result for the same module does.
const Version = 1

// The sections of a module.
const (
	sectionCustom  = 0
	sectionType    = 1
	sectionImport  = 2
	sectionGlobal  = 6
	sectionExport  = 7
	sectionStart   = 8
	sectionElement = 9
	sectionCode    = 10
)

const header = "\x00asm\x01\x00\x00\x00"

// section is one section of a module.
type section struct {
	id   byte
	body []byte
}

// rewriter is what has to be known to rewrite the sections.
type rewriter struct {
	from, name string
	typ        uint64 // index of the type () -> ()
	imported   uint64 // index of the checkpoint: the number of functions that the module imports
	global     uint64 // index of the counter
}

// Insert returns the module with checkpoints that call the function name of the module from, which takes and
// returns nothing.
func Insert(module []byte, from, name string) ([]byte, error) {
	sections, err := split(module)
	if err != nil {
		return nil, err
	}
	w := &rewriter{from: from, name: name}
	sections = withSection(sections, sectionType)
	sections = withSection(sections, sectionImport)
	sections = withSection(sections, sectionGlobal)
	if err := w.count(sections); err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(module)+len(module)/4+64), header...)
	for _, s := range sections {
		body, err := w.section(s)
		if err != nil {
			return nil, fmt.Errorf("section %d: %w", s.id, err)
		}
		if body == nil {
			continue
		}
		out = append(out, s.id)
		out = appendBytes(out, body)
	}
	return out, nil
}

// split returns the sections of a module.
func split(module []byte) ([]section, error) {
	if !bytes.HasPrefix(module, []byte(header)) {
		return nil, errors.New("this is no WebAssembly module of version 1")
	}
	var sections []section
	r := &reader{b: module, at: len(header)}
	for !r.done() {
		sections = append(sections, section{id: r.byte(), body: r.bytes()})
	}
	return sections, r.err
}

// withSection adds an empty section where it belongs if there is none.
func withSection(sections []section, id byte) []section {
	at := len(sections)
	for i, s := range sections {
		if s.id == id {
			return sections
		}
		if s.id > id && i < at {
			at = i
		}
	}
	added := make([]section, 0, len(sections)+1)
	added = append(added, sections[:at]...)
	added = append(added, section{id: id, body: []byte{0}})
	return append(added, sections[at:]...)
}

// count finds the indices of what will be added.
func (w *rewriter) count(sections []section) error {
	for _, s := range sections {
		r := &reader{b: s.body}
		switch s.id {
		case sectionType:
			w.typ = r.uint()
		case sectionImport:
			functions, globals := countImports(r)
			w.imported = functions
			w.global += globals
		case sectionGlobal:
			w.global += r.uint()
		}
		if r.err != nil {
			return fmt.Errorf("section %d: %w", s.id, r.err)
		}
	}
	return nil
}

// countImports returns how many functions and global variables are imported.
func countImports(r *reader) (functions, globals uint64) {
	for n := r.uint(); n > 0 && r.err == nil; n-- {
		r.bytes()
		r.bytes()
		switch kind := r.byte(); kind {
		case 0: // function: a type
			r.leb()
			functions++
		case 1: // table: what it holds, and limits
			r.byte()
			limits(r)
		case 2: // memory
			limits(r)
		case 3: // global: type and whether it changes
			r.byte()
			r.byte()
			globals++
		default:
			r.fail(fmt.Errorf("import of kind %d", kind))
		}
	}
	return functions, globals
}

func limits(r *reader) {
	hasMost := r.byte()&1 != 0
	r.leb()
	if hasMost {
		r.leb()
	}
}

// section returns the new body of a section, or nil for one that is left out.
func (w *rewriter) section(s section) ([]byte, error) {
	r := &reader{b: s.body}
	var out []byte
	switch s.id {
	case sectionCustom:
		return w.names(s.body), nil
	case sectionType:
		const function = 0x60
		out = extend(r, []byte{function, 0, 0})
	case sectionImport:
		entry := appendBytes(nil, []byte(w.from))
		entry = appendBytes(entry, []byte(w.name))
		entry = binary.AppendUvarint(append(entry, 0), w.typ)
		out = extend(r, entry)
	case sectionGlobal:
		out = w.globals(r)
	case sectionExport:
		out = w.exports(r)
	case sectionStart:
		out = w.appendFunction(nil, r.uint())
	case sectionElement:
		out = w.elements(r)
	case sectionCode:
		out = w.code(r)
	default:
		return s.body, nil
	}
	return out, r.err
}

// extend returns a vector with one more entry.
func extend(r *reader, entry []byte) []byte {
	out := binary.AppendUvarint(nil, r.uint()+1)
	out = append(out, r.b[r.at:]...)
	return append(out, entry...)
}

// appendFunction appends the new index of a function.
func (w *rewriter) appendFunction(out []byte, index uint64) []byte {
	if index >= w.imported {
		index++
	}
	return binary.AppendUvarint(out, index)
}

func appendBytes(out, b []byte) []byte {
	return append(binary.AppendUvarint(out, uint64(len(b))), b...)
}

// globals rewrites the initial values and adds the counter.
func (w *rewriter) globals(r *reader) []byte {
	n := r.uint()
	out := binary.AppendUvarint(nil, n+1)
	for ; n > 0 && r.err == nil; n-- {
		out = append(out, r.skip(2)...) // type and whether it changes
		out = w.expression(out, r)
	}
	const i32, changes, i32Const = 0x7F, 1, 0x41
	out = append(out, i32, changes, i32Const)
	out = appendSigned(out, Every)
	return append(out, opEnd)
}

// expression copies a constant expression.
func (w *rewriter) expression(out []byte, r *reader) []byte {
	for {
		start := r.at
		op := r.byte()
		if op == opRefFunc {
			out = w.appendFunction(append(out, op), r.uint())
			continue
		}
		skipInstruction(r, op)
		if r.err != nil {
			return out
		}
		out = append(out, r.b[start:r.at]...)
		if op == opEnd {
			return out
		}
	}
}

// exports rewrites the indices of exported functions.
func (w *rewriter) exports(r *reader) []byte {
	n := r.uint()
	out := binary.AppendUvarint(nil, n)
	for ; n > 0 && r.err == nil; n-- {
		out = appendBytes(out, r.bytes())
		kind := r.byte()
		index := r.uint()
		out = append(out, kind)
		if kind == 0 {
			out = w.appendFunction(out, index)
		} else {
			out = binary.AppendUvarint(out, index)
		}
	}
	return out
}

// elements rewrites the indices of functions in tables. The lowest bits of a segment's kind say that it is not
// active, that it names its table or is declared only, and that it holds expressions.
func (w *rewriter) elements(r *reader) []byte {
	n := r.uint()
	out := binary.AppendUvarint(nil, n)
	for ; n > 0 && r.err == nil; n-- {
		kind := r.uint()
		passive, explicit, expressions := kind&1 != 0, kind&2 != 0, kind&4 != 0
		out = binary.AppendUvarint(out, kind)
		if !passive {
			if explicit {
				out = binary.AppendUvarint(out, r.uint())
			}
			out = w.expression(out, r)
		}
		if passive || explicit {
			out = append(out, r.byte()) // what kind of element
		}
		count := r.uint()
		out = binary.AppendUvarint(out, count)
		for ; count > 0 && r.err == nil; count-- {
			if expressions {
				out = w.expression(out, r)
			} else {
				out = w.appendFunction(out, r.uint())
			}
		}
	}
	return out
}

// appendSigned appends a signed number.
func appendSigned(out []byte, v int64) []byte {
	for {
		c := byte(v & 0x7F)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(out, c)
		}
		out = append(out, c|0x80)
	}
}
