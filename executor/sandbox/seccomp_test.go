//go:build linux && (amd64 || arm64)

package sandbox

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// filterCase is a call and what the filter says to it.
type filterCase struct {
	name       string
	arch, nr   uint32
	arg0, arg1 uint32
	want       uint32
}

// TestFilterProgram runs the program by an interpreter of BPF, for calls that a
// test cannot make: of other architectures, and those that would end the machine.
func TestFilterProgram(t *testing.T) {
	t.Parallel()
	program := filterProgram()
	raw := make([]bpf.RawInstruction, len(program))
	for i, ins := range program {
		raw[i] = bpf.RawInstruction{Op: ins.Code, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	instructions, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program has an unknown instruction")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	arch := program[1].K
	const i386 = 0x40000003
	allow := uint32(unix.SECCOMP_RET_ALLOW)
	refuse := func(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }
	cases := []filterCase{
		{"read", arch, unix.SYS_READ, 0, 0, allow},
		{"execve", arch, unix.SYS_EXECVE, 0, 0, allow},
		{"execveat", arch, unix.SYS_EXECVEAT, 0, 0, allow},
		{"futex", arch, unix.SYS_FUTEX, 0, 0, allow},
		{"fork", arch, unix.SYS_CLONE, uint32(unix.SIGCHLD), 0, allow},
		{"thread", arch, unix.SYS_CLONE, unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND, 0, allow},
		{"terminal size", arch, unix.SYS_IOCTL, 1, unix.TIOCGWINSZ, allow},
		{"type into a terminal", arch, unix.SYS_IOCTL, 1, unix.TIOCSTI, refuse(unix.EPERM)},
		{"other architecture", i386, unix.SYS_READ, 0, 0, refuse(unix.ENOSYS)},
		{"x32", arch, unix.SYS_READ | x32Bit, 0, 0, refuse(unix.ENOSYS)},
		{"x32 mount", arch, unix.SYS_MOUNT | x32Bit, 0, 0, refuse(unix.ENOSYS)},
		{"number that does not exist yet", arch, 900, 0, 0, allow},
	}
	for _, flag := range []uint32{
		unix.CLONE_NEWNS, unix.CLONE_NEWUTS, unix.CLONE_NEWIPC, unix.CLONE_NEWUSER, unix.CLONE_NEWPID,
		unix.CLONE_NEWNET, unix.CLONE_NEWCGROUP,
	} {
		cases = append(cases, filterCase{"clone with a namespace", arch, unix.SYS_CLONE, flag | uint32(unix.SIGCHLD), 0, refuse(unix.EPERM)})
	}
	for _, nr := range refusedCalls {
		cases = append(cases, filterCase{"refused call", arch, nr, 0, 0, refuse(unix.EPERM)})
	}
	for _, tc := range cases {
		// The interpreter loads big-endian, as packets are; the kernel loads
		// seccomp_data in its own order. The values are what matters.
		data := make([]byte, 64)
		binary.BigEndian.PutUint32(data[dataNr:], tc.nr)
		binary.BigEndian.PutUint32(data[dataArch:], tc.arch)
		binary.BigEndian.PutUint32(data[dataArg0:], tc.arg0)
		binary.BigEndian.PutUint32(data[dataArg1:], tc.arg1)
		got, err := vm.Run(data)
		if err != nil || uint32(got) != tc.want {
			t.Errorf("%s (%d): %#x, %v, want %#x", tc.name, tc.nr, got, err, tc.want)
		}
	}
}
