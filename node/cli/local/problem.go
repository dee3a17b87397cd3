package local

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/plugins"
)

// statusGone is nginx's number for a caller that left.
const statusGone = 499

// Problem is an error of Invoke in the form that the cluster gives it, so that a
// client sees the same here and there. What the cluster keeps from callers, the
// cause of an internal error, is shown: here the caller is the developer.
func Problem(err error, requestID string) wire.Problem {
	p := problem(http.StatusInternalServerError, wire.CodeInternal, err.Error(), requestID)
	set := func(status int, code wire.Code) { p = problem(status, code, p.Detail, requestID) }
	function, failed := errors.AsType[*plugins.FunctionError](err)
	initial, broken := errors.AsType[*plugins.InitError](err)
	start, unstarted := errors.AsType[*executor.StartError](err)
	_, looping := errors.AsType[*executor.CrashLoopError](err)
	exit, ended := errors.AsType[*plugins.ExitError](err)
	_, large := errors.AsType[*http.MaxBytesError](err)
	switch {
	case failed:
		set(http.StatusInternalServerError, wire.CodeFunctionError)
		p.Error = &wire.FunctionError{Type: function.Type, Message: function.Message, Stack: lines(function.Stack)}
	case broken:
		set(http.StatusServiceUnavailable, wire.CodeStartFailed)
		p.Error = &wire.FunctionError{Type: initial.Type, Message: initial.Message, Stack: lines(initial.Stack)}
	case unstarted:
		set(http.StatusServiceUnavailable, wire.CodeStartFailed)
		if start.Log != "" {
			p.Detail += "\n" + start.Log
		}
	case looping:
		set(http.StatusServiceUnavailable, wire.CodeStartFailed)
	case errors.Is(err, executor.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		set(http.StatusGatewayTimeout, wire.CodeTimeout)
	case errors.Is(err, executor.ErrQueueFull), errors.Is(err, executor.ErrNoCapacity):
		set(http.StatusTooManyRequests, wire.CodeBusy)
	case errors.Is(err, executor.ErrDraining), errors.Is(err, executor.ErrClosed):
		set(http.StatusServiceUnavailable, wire.CodeDraining)
	case errors.Is(err, context.Canceled):
		set(statusGone, wire.CodeCanceled)
	case large:
		set(http.StatusRequestEntityTooLarge, wire.CodeTooLarge)
	case ended && !errors.Is(err, plugins.ErrNotStarted):
		// The instance ended by itself: its own doing, told like a panic.
		set(http.StatusInternalServerError, wire.CodeFunctionError)
		p.Error = &wire.FunctionError{Type: "Runtime.ExitError", Message: exit.Cause.Error()}
	}
	return p
}

// problem is an error document without a function's error.
func problem(status int, code wire.Code, detail, requestID string) wire.Problem {
	return wire.Problem{
		Type: "urn:covey:error:" + string(code), Title: http.StatusText(status), Status: status, Detail: detail,
		Code: code, RequestID: requestID, Resend: wire.ResendNo,
	}
}

// lines splits a stack, as the cluster's API shows it.
func lines(stack string) []string {
	if stack == "" {
		return nil
	}
	return strings.Split(strings.TrimRight(stack, "\n"), "\n")
}
