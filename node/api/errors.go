package api

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/internal/blob"
	"github.com/covey-dev/covey/node/access"
	"github.com/covey-dev/covey/node/access/sigv4"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
	"github.com/covey-dev/covey/plugins"
)

// statusClientGone is nginx's number for a caller that left; only metrics and
// logs see it.
const statusClientGone = 499

// requestError is an error that this package itself finds.
type requestError struct {
	status int
	code   wire.Code
	detail string
}

func (e *requestError) Error() string { return e.detail }

// refusal is an error with its own status and code. The detail is for the caller.
func refusal(status int, code wire.Code, detail string) error {
	return &requestError{status: status, code: code, detail: detail}
}

func badRequest(detail string) error {
	return refusal(http.StatusBadRequest, wire.CodeBadRequest, detail)
}

func notFound(what string) error {
	return refusal(http.StatusNotFound, wire.CodeNotFound, what)
}

// Refusals that other packages may return to have them told apart here without
// importing the cluster's libraries.
var (
	// ErrNoQuorum says that a control write is not possible now. What wraps the
	// cluster for [Control] returns it, wrapped.
	ErrNoQuorum = errors.New("the cluster has no quorum")
	// ErrOverloaded says that too many control writes are waiting.
	ErrOverloaded = errors.New("too many control writes are waiting")
)

// outcome is an error as the caller gets it.
type outcome struct {
	status int
	code   wire.Code
	detail string
	resend wire.Resend
	// retryAfter is rounded up to seconds for the header; 0 leaves it out.
	retryAfter time.Duration
	function   *wire.FunctionError
	unhandled  bool
}

// outcomeOf is the one place where a Go error becomes a status and a code. What
// it does not know is "internal", without a word of the cause.
func outcomeOf(err error) outcome {
	if o, ok := knownByType(err); ok {
		return o
	}
	for _, known := range []struct {
		err error
		outcome
	}{
		{access.ErrNoToken, outcome{status: http.StatusUnauthorized, code: wire.CodeUnauthenticated, resend: wire.ResendNo}},
		{access.ErrBadToken, outcome{status: http.StatusUnauthorized, code: wire.CodeUnauthenticated, resend: wire.ResendNo}},
		{access.ErrUnknownKey, outcome{status: http.StatusForbidden, code: wire.CodeUnauthenticated, resend: wire.ResendNo}},
		{access.ErrExpiredKey, outcome{status: http.StatusForbidden, code: wire.CodeUnauthenticated, resend: wire.ResendNo}},
		{access.ErrLostKey, outcome{status: http.StatusForbidden, code: wire.CodeUnauthenticated, resend: wire.ResendNo}},
		{access.ErrNoKeeper, outcome{status: http.StatusServiceUnavailable, code: wire.CodeUnavailable, resend: wire.ResendSafe, retryAfter: time.Second}},
		{access.ErrDenied, outcome{status: http.StatusForbidden, code: wire.CodeDenied, resend: wire.ResendNo}},
		{invoke.ErrNotFound, outcome{status: http.StatusNotFound, code: wire.CodeNotFound, resend: wire.ResendNo}},
		{state.ErrNoFunction, outcome{status: http.StatusNotFound, code: wire.CodeNotFound, resend: wire.ResendNo}},
		{state.ErrNoVersion, outcome{status: http.StatusNotFound, code: wire.CodeNotFound, resend: wire.ResendNo}},
		{state.ErrNoAlias, outcome{status: http.StatusNotFound, code: wire.CodeNotFound, resend: wire.ResendNo}},
		{invoke.ErrTooDeep, outcome{status: http.StatusBadRequest, code: wire.CodeTooDeep, resend: wire.ResendNo}},
		{invoke.ErrDraining, outcome{status: http.StatusServiceUnavailable, code: wire.CodeDraining, resend: wire.ResendSafe, retryAfter: time.Second}},
		// Nobody took the command, so nothing was changed.
		{cluster.ErrNoLeader, outcome{status: http.StatusServiceUnavailable, code: wire.CodeNoQuorum, resend: wire.ResendSafe, retryAfter: time.Second}},
		{ErrNoQuorum, outcome{status: http.StatusServiceUnavailable, code: wire.CodeNoQuorum, resend: wire.ResendIfIdempotent, retryAfter: time.Second}},
		{ErrOverloaded, outcome{status: http.StatusTooManyRequests, code: wire.CodeOverloaded, resend: wire.ResendSafe, retryAfter: time.Second}},
		{cluster.ErrUnknownNode, outcome{status: http.StatusNotFound, code: wire.CodeNotFound, resend: wire.ResendNo}},
		{cluster.ErrWouldLoseQuorum, outcome{status: http.StatusConflict, code: wire.CodeConflict, resend: wire.ResendNo}},
		{cluster.ErrRemoved, outcome{status: http.StatusConflict, code: wire.CodeConflict, resend: wire.ResendNo}},
		{cluster.ErrTooLarge, outcome{status: http.StatusRequestEntityTooLarge, code: wire.CodeTooLarge, resend: wire.ResendNo}},
		{cluster.ErrDiskFull, outcome{status: http.StatusInsufficientStorage, code: wire.CodeUnavailable, resend: wire.ResendNo}},
		{blob.ErrNoSpace, outcome{status: http.StatusInsufficientStorage, code: wire.CodeUnavailable, resend: wire.ResendNo}},
		{blob.ErrTooLarge, outcome{status: http.StatusRequestEntityTooLarge, code: wire.CodeTooLarge, resend: wire.ResendNo}},
		{blob.ErrNotDurable, outcome{status: http.StatusServiceUnavailable, code: wire.CodeUnavailable, resend: wire.ResendIfIdempotent, retryAfter: time.Second}},
		{blob.ErrBusy, outcome{status: http.StatusTooManyRequests, code: wire.CodeOverloaded, resend: wire.ResendSafe, retryAfter: time.Second}},
		// The instance is ended by now, and had the whole time it is allowed.
		{invoke.ErrTimeout, outcome{status: http.StatusGatewayTimeout, code: wire.CodeTimeout, resend: wire.ResendNo}},
		{os.ErrDeadlineExceeded, outcome{status: http.StatusRequestTimeout, code: wire.CodeRequestTimeout, resend: wire.ResendNo}},
		{context.DeadlineExceeded, outcome{status: http.StatusGatewayTimeout, code: wire.CodeTimeout, resend: wire.ResendNo}},
		{invoke.ErrCanceled, outcome{status: statusClientGone, code: wire.CodeCanceled, resend: wire.ResendNo}},
		{context.Canceled, outcome{status: statusClientGone, code: wire.CodeCanceled, resend: wire.ResendNo}},
		{plugins.ErrNotStarted, outcome{status: http.StatusServiceUnavailable, code: wire.CodeUnavailable, resend: wire.ResendSafe, retryAfter: time.Second}},
	} {
		if errors.Is(err, known.err) {
			known.detail = err.Error()
			return known.outcome
		}
	}
	return outcome{
		status: http.StatusInternalServerError, code: wire.CodeInternal, resend: wire.ResendIfIdempotent,
		detail: "the node's log has the cause, under the request id",
	}
}

// knownByType handles the errors that carry data.
func knownByType(err error) (outcome, bool) {
	if e, ok := errors.AsType[*requestError](err); ok {
		return outcome{status: e.status, code: e.code, detail: e.detail, resend: wire.ResendNo}, true
	}
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return outcome{status: http.StatusForbidden, code: wire.CodeUnauthenticated, detail: e.Message, resend: wire.ResendNo}, true
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return outcome{
			status: http.StatusRequestEntityTooLarge, code: wire.CodeTooLarge, resend: wire.ResendNo,
			detail: "the body is larger than " + strconv.FormatInt(e.Limit, 10) + " bytes",
		}, true
	}
	if e, ok := errors.AsType[*invoke.BusyError](err); ok {
		return outcome{
			status: http.StatusTooManyRequests, code: wire.CodeBusy, detail: e.Error(), resend: wire.ResendSafe,
			retryAfter: max(e.RetryAfter, time.Second),
		}, true
	}
	if e, ok := errors.AsType[*invoke.StartError](err); ok {
		return outcome{status: http.StatusServiceUnavailable, code: wire.CodeStartFailed, detail: e.Error(), resend: wire.ResendNo}, true
	}
	if e, ok := errors.AsType[*invoke.UnknownOutcomeError](err); ok {
		return outcome{status: http.StatusBadGateway, code: wire.CodeUnknownOutcome, detail: e.Error(), resend: wire.ResendIfIdempotent}, true
	}
	if e, ok := errors.AsType[*plugins.FunctionError](err); ok {
		return functionOutcome(e), true
	}
	if e, ok := errors.AsType[*state.RefusalError](err); ok {
		status, code := refusalStatus(e.Code)
		return outcome{status: status, code: code, detail: e.Message, resend: wire.ResendNo}, true
	}
	return outcome{}, false
}

// functionOutcome is the function's own failure. The status is 500 because a
// caller that looks at nothing else must not take it for success; the code and
// the header tell it apart from a failure of ours.
func functionOutcome(e *plugins.FunctionError) outcome {
	return outcome{
		status: http.StatusInternalServerError, code: wire.CodeFunctionError, detail: "the function failed",
		resend: wire.ResendNo, function: functionError(e), unhandled: e.Unhandled,
	}
}

// functionError splits the stack into lines, as Lambda's clients expect it.
func functionError(e *plugins.FunctionError) *wire.FunctionError {
	f := &wire.FunctionError{Type: e.Type, Message: e.Message}
	if e.Stack != "" {
		f.Stack = strings.Split(strings.TrimRight(e.Stack, "\n"), "\n")
	}
	return f
}

// refusalStatus gives a refusal of the state machine its status and code.
func refusalStatus(code clusterpb.RefusalCode) (int, wire.Code) {
	switch code {
	case clusterpb.RefusalCode_REFUSAL_CODE_INVALID:
		return http.StatusBadRequest, wire.CodeBadRequest
	case clusterpb.RefusalCode_REFUSAL_CODE_NOT_FOUND:
		return http.StatusNotFound, wire.CodeNotFound
	case clusterpb.RefusalCode_REFUSAL_CODE_CONFLICT:
		return http.StatusPreconditionFailed, wire.CodePrecondition
	case clusterpb.RefusalCode_REFUSAL_CODE_LIMIT:
		return http.StatusForbidden, wire.CodeLimit
	case clusterpb.RefusalCode_REFUSAL_CODE_NO_NODE:
		return http.StatusUnprocessableEntity, wire.CodeNoNode
	case clusterpb.RefusalCode_REFUSAL_CODE_NOT_FOUNDED, clusterpb.RefusalCode_REFUSAL_CODE_LEVEL:
		return http.StatusServiceUnavailable, wire.CodeUnavailable
	default:
		// Exists, removed, expired, in use: the state does not allow it.
		return http.StatusConflict, wire.CodeConflict
	}
}

// problem is the outcome as a document.
func (o outcome) problem(id string) wire.Problem {
	title := http.StatusText(o.status)
	if o.status == statusClientGone {
		title = "Client Closed Request"
	}
	return wire.Problem{
		Type: "urn:covey:error:" + string(o.code), Title: title, Status: o.status, Detail: o.detail,
		Code: o.code, RequestID: id, Resend: o.resend, Error: o.function,
	}
}

// write answers with the outcome as problem+json.
func (o outcome) write(w http.ResponseWriter, id string) {
	h := w.Header()
	o.writeHeaders(h, id)
	h.Set("Content-Type", "application/problem+json")
	body, err := json.Marshal(o.problem(id))
	if err != nil {
		body = []byte(`{"code":"internal"}`)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(o.status)
	_, _ = w.Write(body) // the client is gone; nobody is left to tell
}

// writeHeaders sets what all dialects share.
func (o outcome) writeHeaders(h http.Header, id string) {
	h.Set(wire.HeaderRequestID, id)
	h.Set("X-Content-Type-Options", "nosniff")
	if o.function != nil {
		h.Set(wire.HeaderFunctionError, handled(o.unhandled))
	}
	h.Set(wire.HeaderError, string(o.code))
	if o.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(o.retryAfter.Seconds()))))
	}
	if o.status == http.StatusUnauthorized {
		h.Set("Www-Authenticate", `Bearer realm="covey"`)
	}
}

// handled is Lambda's word for an error that was returned rather than raised.
func handled(unhandled bool) string {
	if unhandled {
		return "Unhandled"
	}
	return "Handled"
}
