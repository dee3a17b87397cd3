//go:build unix

package wasm

import "golang.org/x/sys/unix"

// reserve returns zeroed memory that costs nothing until it is touched.
func reserve(size uint64) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	return unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
}

func unreserve(b []byte) {
	if b != nil {
		// It can only fail for what is no mapping.
		_ = unix.Munmap(b)
	}
}
