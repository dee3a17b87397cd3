package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/covey-dev/covey/node/client/wire"
)

// maxProblem bounds what is read of an error answer.
const maxProblem = 1 << 20

// request is one logical request: what is sent, possibly more than once.
type request struct {
	method, path string
	id           string
	header       http.Header
	// body returns the body from its start, each time; nil means none. size is
	// -1 when unknown.
	body func() (io.Reader, error)
	size int64
	// repeatable means that the server makes repetition harmless: it only reads,
	// or it knows the request id again.
	repeatable bool
	// invocation lets the server decide whether an unknown outcome is repeated.
	invocation bool
}

// sendError is a request that got no answer.
type sendError struct {
	// started tells that the server may have acted on it.
	started bool
	err     error
}

func (e *sendError) Error() string { return e.err.Error() }
func (e *sendError) Unwrap() error { return e.err }

// do sends the request until it is answered, may not be sent again, or attempts
// or time run out. consume reads a good answer; its failure counts as a lost
// answer. It must be repeatable with the request.
func (c *Client) do(ctx context.Context, req *request, consume func(*http.Response) error) error {
	var last *endpoint
	var lost error // how an answer was lost; set means that it may have run
	for attempt := 1; ; attempt++ {
		ep := c.pick(last)
		last = ep
		err := c.attempt(ctx, ep, req, lost != nil, consume)
		if err == nil {
			return nil
		}
		var wait time.Duration
		again := false
		switch failure := classify(err); failure {
		case neverStarted:
			again = true
			wait = retryAfter(err)
			if leaving(err) && len(c.endpoints) > 1 {
				ep.markFailed()
				wait = 0 // it asks to wait for its own next start
			}
		case maybeStarted:
			if lost == nil {
				lost = err
			}
			again = req.repeatable || req.invocation
		case refusedRepeat:
			return &UnknownOutcomeError{RequestID: req.id, Err: lost}
		case final:
		}
		if ctx.Err() != nil || noQuorum(err) && attempt >= len(c.endpoints) {
			again = false
		}
		if !again || attempt >= c.cfg.MaxAttempts || !c.pause(ctx, attempt, wait) {
			return c.giveUp(req, lost, err)
		}
	}
}

// giveUp names the failure that the caller gets.
func (c *Client) giveUp(req *request, lost, err error) error {
	if answer, ok := errors.AsType[*Error](err); ok {
		if lost != nil && answer.Resend != wire.ResendNo {
			return &UnknownOutcomeError{RequestID: req.id, Err: errors.Join(lost, err)}
		}
		return err
	}
	if lost == nil {
		return &UnreachableError{Addresses: c.Addresses(), Err: err}
	}
	return &UnknownOutcomeError{RequestID: req.id, Err: lost}
}

type failure int

const (
	// final: asking again gives the same answer.
	final failure = iota
	// neverStarted: it certainly did not start.
	neverStarted
	// maybeStarted: it may have run.
	maybeStarted
	// refusedRepeat: a repetition was refused because of what it repeats.
	refusedRepeat
)

// classify tells what an attempt's failure says about the request.
func classify(err error) failure {
	if sent, ok := errors.AsType[*sendError](err); ok {
		if sent.started {
			return maybeStarted
		}
		return neverStarted
	}
	answer, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		return final
	case answer.Code == wire.CodeNotIdempotent:
		return refusedRepeat
	case answer.Resend == wire.ResendSafe:
		return neverStarted
	case answer.Resend == wire.ResendIfIdempotent:
		return maybeStarted
	default:
		return final
	}
}

// attempt sends the request to one address, once.
func (c *Client) attempt(ctx context.Context, ep *endpoint, req *request, repeated bool, consume func(*http.Response) error) error {
	// written is set when the last byte was handed to the connection: until
	// then a node cannot have the whole body, and no function has started.
	var written atomic.Bool
	trace := &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) {
		if info.Err == nil {
			written.Store(true)
		}
	}}
	hreq, err := c.build(httptrace.WithClientTrace(ctx, trace), ep, req, repeated)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(hreq)
	if err != nil {
		if ctx.Err() == nil {
			ep.markFailed()
		}
		return &sendError{started: written.Load(), err: fmt.Errorf("%s %s: %w", req.method, ep.prefix+req.path, unwrapURL(err))}
	}
	defer resp.Body.Close()
	if !resp.Close { // a node that stops finishes its calls with this header
		ep.markWorking()
	}
	if resp.Header.Get(wire.HeaderError) != "" || isProblem(resp) {
		return readProblem(resp, ep.prefix)
	}
	if err := consume(resp); err != nil {
		if _, ok := errors.AsType[*callerError](err); ok {
			return err
		}
		return &sendError{started: true, err: fmt.Errorf("read answer of %s: %w", ep.prefix, err)}
	}
	return nil
}

// build makes the HTTP request of one attempt. The token is set here and nowhere
// else, and redirects are not followed, so it goes to configured addresses only.
func (c *Client) build(ctx context.Context, ep *endpoint, req *request, repeated bool) (*http.Request, error) {
	var body io.Reader
	if req.body != nil {
		r, err := req.body()
		if err != nil {
			return nil, fmt.Errorf("read request body: %w", err)
		}
		body = r
	}
	hreq, err := http.NewRequestWithContext(ctx, req.method, ep.prefix+req.path, body)
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	if body != nil {
		hreq.ContentLength = req.size
	}
	for k, v := range req.header {
		hreq.Header[k] = v
	}
	hreq.Header.Set(wire.HeaderRequestID, req.id)
	if c.cfg.Token != "" {
		hreq.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	if deadline, ok := ctx.Deadline(); ok && req.invocation {
		left := max(time.Until(deadline).Milliseconds(), 1)
		hreq.Header.Set(wire.HeaderTimeout, strconv.FormatInt(left, 10))
	}
	if repeated && req.invocation {
		hreq.Header.Set(wire.HeaderResend, wire.ResendUnknown)
	}
	return hreq, nil
}

// pause waits before the next attempt: not at all while there are addresses
// that were not tried yet, then longer each time, and at least as long as the
// server asked for. It returns false when the context ends first.
func (c *Client) pause(ctx context.Context, attempt int, atLeast time.Duration) bool {
	wait := atLeast
	if rounds := attempt / len(c.endpoints); rounds > 0 {
		backoff := c.cfg.BackoffMin << min(rounds-1, 16)
		backoff = min(backoff, c.cfg.BackoffMax)
		wait = max(wait, backoff/2+rand.N(backoff/2+1))
	}
	if wait == 0 {
		return true
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// leaving tells whether a node said that it is about to stop: it is avoided then,
// because it closes its connections soon, whatever is on its way on them.
func leaving(err error) bool {
	answer, ok := errors.AsType[*Error](err)
	return ok && answer.Code == wire.CodeDraining
}

// noQuorum tells whether a node said that it sees no quorum. It waited for an
// election before it did, so asking the same node again only takes longer;
// another node may see the majority.
func noQuorum(err error) bool {
	answer, ok := errors.AsType[*Error](err)
	return ok && answer.Code == wire.CodeNoQuorum
}

// retryAfter is how long the server asked to wait.
func retryAfter(err error) time.Duration {
	if answer, ok := errors.AsType[*Error](err); ok {
		return answer.RetryAfter
	}
	return 0
}

// unwrapURL drops the method and the address that net/http puts around a cause.
func unwrapURL(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// isProblem recognises an error document that lacks our header, as one that went
// through a proxy may.
func isProblem(resp *http.Response) bool {
	return resp.StatusCode >= 400 && resp.Header.Get("Content-Type") == "application/problem+json"
}

// readProblem turns an error answer into an *Error, also when something in
// between answered in its own way.
func readProblem(resp *http.Response, address string) error {
	e := &Error{Address: address}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err == nil {
		err = json.Unmarshal(raw, &e.Problem)
	}
	if err != nil || e.Code == "" {
		e.Problem = wire.Problem{
			Title: http.StatusText(resp.StatusCode), Status: resp.StatusCode,
			Code: wire.CodeInternal, Resend: wire.ResendNo,
			Detail: fmt.Sprintf("status %d: %s", resp.StatusCode, bytes.TrimSpace(raw[:min(len(raw), 200)])),
		}
	}
	if e.Code == wire.CodeInternal && resp.StatusCode >= http.StatusInternalServerError {
		e.Resend = wire.ResendIfIdempotent
	}
	if seconds, err := strconv.ParseFloat(resp.Header.Get("Retry-After"), 64); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(seconds * float64(time.Second))
	}
	return e
}

// callerError is a failure of the caller's own reader or writer, which sending
// again would not cure.
type callerError struct{ err error }

func (e *callerError) Error() string { return e.err.Error() }
func (e *callerError) Unwrap() error { return e.err }

// newID returns a fresh request id.
func newID() string { return ulid.Make().String() }
