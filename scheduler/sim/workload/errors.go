package workload

import (
	"errors"
	"fmt"
)

// ErrTooLarge is what a reader answers when a trace needs more memory than its bounds
// allow. Read a smaller sample of it, or a shorter part, or raise the bound.
var ErrTooLarge = errors.New("trace exceeds the bound")

// LineError says where a trace is damaged. Readers answer it for whatever is wrong with
// the content of a file; get at it with errors.AsType.
type LineError struct {
	// File is the name that the reader was given.
	File string
	// Line counts from one; the header is a line.
	Line int
	// Err is what is wrong.
	Err error
}

// Error names the file and the line first, as compilers do.
func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap returns what is wrong.
func (e *LineError) Unwrap() error { return e.Err }
