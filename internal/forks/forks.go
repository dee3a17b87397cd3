// Package forks makes files that this process has written executable without fail.
//
// A child between fork and exec still holds the descriptors that its parent had open
// for writing, also those that the parent has closed meanwhile, and the kernel refuses
// to execute a file that anybody has open for writing (ETXTBSY, "text file busy").
package forks

import "syscall"

// Settle waits until no child of this process is between fork and exec. A file that
// was closed before the call can be executed after it. Go holds ForkLock from the
// fork until the child has called exec. Settle blocks for less than a millisecond as
// a rule, and is safe for concurrent use.
func Settle() {
	syscall.ForkLock.Lock()
	//lint:ignore SA2001 the lock is taken to wait for its present holders
	syscall.ForkLock.Unlock()
}
