//go:build linux

#include "textflag.h"

// See stage.go for what this program is and how it gets into a file of its own.
// R19 holds the current step, R20 the base of the script.
#define BASE   $0x10000000
#define SIZE   $0x400000
#define FIRST  $0x10000040
#define STEP   $80

// func stage()
TEXT ·stage(SB), NOSPLIT|NOFRAME, $0
	// The script is on descriptor 0: read(0, BASE, SIZE).
	MOVD $63, R8
	MOVD $0, R0
	MOVD BASE, R1
	MOVD SIZE, R2
	SVC
	MOVD BASE, R20
	MOVD FIRST, R19

loop:
	MOVD 0(R19), R8
	MOVD 8(R19), R0
	MOVD 16(R19), R1
	MOVD 24(R19), R2
	MOVD 32(R19), R3
	MOVD 40(R19), R4
	MOVD 48(R19), R5
	SVC
	CMN  $4095, R0
	BHS  failed
	MOVD 56(R19), R9
	CMP  R9, R0
	BNE  next
	MOVD 64(R19), R9
	CBZ  R9, next
	MOVD R9, R19
	B    loop

next:
	ADD  STEP, R19
	B    loop

failed:
	MOVD 72(R19), R9
	CBNZ R9, next

	// Report {step, -errno} with write(fd, BASE+8, 16), then exit_group(127).
	MOVD R19, 8(R20)
	MOVD R0, 16(R20)
	MOVD $64, R8
	MOVD 0(R20), R0
	ADD  $8, R20, R1
	MOVD $16, R2
	SVC
	MOVD $94, R8
	MOVD $127, R0
	SVC
	WORD $0xd4200000 // BRK
	WORD $0x65766f43
	WORD $0x646e4579

// func stageAddr() unsafe.Pointer
TEXT ·stageAddr(SB), NOSPLIT, $0-8
	MOVD $·stage(SB), R0
	MOVD R0, ret+0(FP)
	RET
