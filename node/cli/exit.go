package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/covey-dev/covey/node/client"
)

// The exit codes, which scripts may rely on.
const (
	// ExitOK means that it worked.
	ExitOK = 0
	// ExitFailure means that it failed in a way without a code of its own.
	ExitFailure = 1
	// ExitUsage means that the command line is wrong; nothing was done.
	ExitUsage = 2
	// ExitNotFound means that what was named does not exist.
	ExitNotFound = 3
	// ExitDenied means that the token is missing, wrong or not enough.
	ExitDenied = 4
	// ExitConflict means that somebody was faster, or that it exists already.
	ExitConflict = 5
	// ExitUnavailable means no node answers, no quorum, or no capacity: later it
	// may work.
	ExitUnavailable = 6
	// ExitTimeout means that it took too long.
	ExitTimeout = 7
	// ExitFunction means that the function failed, not Covey.
	ExitFunction = 8
	// ExitInterrupted means that a signal ended the command.
	ExitInterrupted = 130
)

const exitHelp = `Exit codes:
  0 done                 5 conflict
  1 failed               6 unavailable, no quorum or no capacity
  2 wrong command line   7 timeout
  3 not found            8 the function failed
  4 denied               130 interrupted`

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef makes an error that ends the program with ExitUsage.
func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// exitCode is the one place where an error becomes an exit code.
func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return ExitOK
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return ExitUsage
	}
	if ctx.Err() != nil {
		return ExitInterrupted
	}
	for _, known := range []struct {
		err  error
		code int
	}{
		{client.ErrFunction, ExitFunction},
		{client.ErrNotFound, ExitNotFound},
		{client.ErrDenied, ExitDenied},
		{client.ErrConflict, ExitConflict},
		{context.DeadlineExceeded, ExitTimeout},
		{client.ErrTimeout, ExitTimeout},
		{client.ErrBusy, ExitUnavailable},
		{client.ErrUnavailable, ExitUnavailable},
	} {
		if errors.Is(err, known.err) {
			return known.code
		}
	}
	return ExitFailure
}

// explainFailure tells the user what happened and, where there is something, what
// to do about it.
func explainFailure(w io.Writer, err error) {
	fmt.Fprintf(w, "covey: %v\n", err)
	answer, ok := errors.AsType[*client.Error](err)
	if !ok {
		return
	}
	if f := answer.Problem.Error; f != nil {
		for _, line := range f.Stack {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
	if answer.RequestID != "" {
		fmt.Fprintf(w, "request id: %s\n", answer.RequestID)
	}
}
