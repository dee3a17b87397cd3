package checkpoint

import "fmt"

// The instructions that matter here by themselves.
const (
	opLoop     = 0x03
	opCall     = 0x10
	opIndirect = 0x11
	opRefFunc  = 0xD2
	opMisc     = 0xFC
	opVector   = 0xFD
	opEnd      = 0x0B
)

// skipInstruction passes over what follows an opcode of one byte, except for the functions that opCall and opRefFunc name.
func skipInstruction(r *reader, op byte) {
	switch {
	case op == opMisc:
		skipMisc(r)
	case op == opVector:
		skipVector(r)
	case op >= 0x45 && op <= 0xC4: // comparisons, arithmetic, conversions
	case op >= 0x28 && op <= 0x3E: // loads and stores: alignment and offset
		r.leb()
		r.leb()
	case op >= 0x20 && op <= 0x26: // local, global and table access
		r.leb()
	default:
		skipControl(r, op)
	}
}

func skipControl(r *reader, op byte) {
	switch op {
	case 0x00, 0x01, 0x05, opEnd, 0x0F, 0x1A, 0x1B, 0xD1: // unreachable, nop, else, end, return, drop, select, ref.is_null
	case 0x02, opLoop, 0x04: // block, loop, if: a type
		r.leb()
	case 0x0C, 0x0D: // br, br_if
		r.leb()
	case 0x0E: // br_table
		for n := r.uint(); n > 0 && r.err == nil; n-- {
			r.leb()
		}
		r.leb()
	case opIndirect: // type and table
		r.leb()
		r.leb()
	case 0x1C: // select with types
		r.bytes()
	case 0x3F, 0x40: // memory.size, memory.grow
		r.leb()
	case 0x41, 0x42: // i32.const, i64.const
		r.leb()
	case 0x43: // f32.const
		r.skip(4)
	case 0x44: // f64.const
		r.skip(8)
	case 0xD0: // ref.null
		r.leb()
	default:
		r.fail(fmt.Errorf("instruction 0x%02x is not of WebAssembly 2.0", op))
	}
}

// skipMisc passes over the second half of the instructions behind opMisc.
func skipMisc(r *reader) {
	switch op := r.uint(); {
	case op <= 7: // saturating conversions
	case op == 9, op == 11, op == 13, op >= 15 && op <= 17: // one index
		r.leb()
	case op == 8, op == 10, op == 12, op == 14: // two
		r.leb()
		r.leb()
	default:
		r.fail(fmt.Errorf("instruction 0x%02x %d is not of WebAssembly 2.0", opMisc, op))
	}
}

// skipVector passes over the second half of the instructions behind opVector.
func skipVector(r *reader) {
	const last = 0xFF // f64x2.convert_low_i32x4_u is the last of WebAssembly 2.0
	switch op := r.uint(); {
	case op <= 11, op == 92, op == 93: // loads and stores
		r.leb()
		r.leb()
	case op == 12, op == 13: // v128.const, i8x16.shuffle
		r.skip(16)
	case op >= 21 && op <= 34: // one lane
		r.byte()
	case op >= 84 && op <= 91: // loads and stores of one lane
		r.leb()
		r.leb()
		r.byte()
	case op > last:
		r.fail(fmt.Errorf("instruction 0x%02x %d is not of WebAssembly 2.0", opVector, op))
	}
}
