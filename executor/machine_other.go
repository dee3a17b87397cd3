//go:build !linux

package executor

// machineMemory returns a careful guess: only Linux nodes run functions so far.
func machineMemory() int64 { return fallbackMemory }
