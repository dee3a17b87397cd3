//go:build unix && !linux

package covey

import "syscall"

// peakMemory is the greatest resident size in bytes.
func peakMemory(u *syscall.Rusage) uint64 { return uint64(u.Maxrss) }
