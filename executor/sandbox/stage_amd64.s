//go:build linux

#include "textflag.h"

// See stage.go for what this program is and how it gets into a file of its own.
// R12 holds the current step, BX the base of the script.
#define BASE   $0x10000000
#define SIZE   $0x400000
#define FIRST  $0x10000040
#define STEP   $80

// func stage()
TEXT ·stage(SB), NOSPLIT|NOFRAME, $0
	// The script is on descriptor 0: read(0, BASE, SIZE).
	XORL AX, AX
	XORL DI, DI
	MOVQ BASE, SI
	MOVQ SIZE, DX
	SYSCALL
	MOVQ BASE, BX
	MOVQ FIRST, R12

loop:
	MOVQ 0(R12), AX
	MOVQ 8(R12), DI
	MOVQ 16(R12), SI
	MOVQ 24(R12), DX
	MOVQ 32(R12), R10
	MOVQ 40(R12), R8
	MOVQ 48(R12), R9
	SYSCALL
	CMPQ AX, $-4095
	JCC  failed
	CMPQ AX, 56(R12)
	JNE  next
	MOVQ 64(R12), AX
	TESTQ AX, AX
	JEQ  next
	MOVQ AX, R12
	JMP  loop

next:
	ADDQ STEP, R12
	JMP  loop

failed:
	MOVQ 72(R12), CX
	TESTQ CX, CX
	JNE  next

	// Report {step, -errno} with write(fd, BASE+8, 16), then exit_group(127).
	MOVQ R12, 8(BX)
	MOVQ AX, 16(BX)
	MOVL $1, AX
	MOVQ 0(BX), DI
	LEAQ 8(BX), SI
	MOVL $16, DX
	SYSCALL
	MOVL $231, AX
	MOVL $127, DI
	SYSCALL
	INT  $3
	LONG $0x65766f43
	LONG $0x646e4579

// func stageAddr() unsafe.Pointer
TEXT ·stageAddr(SB), NOSPLIT, $0-8
	LEAQ ·stage(SB), AX
	MOVQ AX, ret+0(FP)
	RET
