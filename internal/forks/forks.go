// Package forks makes files that this process has written executable without fail.
//
// A child between fork and exec still holds the descriptors that its parent had open
// for writing, also those that the parent has closed meanwhile, and the kernel refuses
// to execute a file that anybody has open for writing (ETXTBSY, "text file busy").
package forks

import "syscall"

// Settle returns when the given files, which this process has written and closed, can
// be executed. It blocks for less than a millisecond as a rule, for a second at most,
// and is safe for concurrent use.
func Settle(paths ...string) {
	// Go holds ForkLock until the child has called exec. The kernel closes the child's
	// descriptors a moment later.
	syscall.ForkLock.Lock()
	//lint:ignore SA2001 the lock is taken to wait for its present holders
	syscall.ForkLock.Unlock()
	for _, path := range paths {
		awaitWriters(path)
	}
}
