package frame

import "syscall"

// recvFlags makes received descriptors close-on-exec before any other thread can fork.
const recvFlags = syscall.MSG_CMSG_CLOEXEC

func socketpair() ([2]int, error) {
	return syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
}
