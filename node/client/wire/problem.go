package wire

// Code is the stable name of an error. Clients switch on it, never on the text.
type Code string

// The codes of the API. A code is never given a second meaning.
const (
	CodeBadRequest      Code = "bad_request"
	CodeUnauthenticated Code = "unauthenticated"
	CodeDenied          Code = "denied"
	CodeNotFound        Code = "not_found"
	CodeMethod          Code = "method_not_allowed"
	CodeConflict        Code = "conflict"
	CodePrecondition    Code = "precondition_failed"
	CodeTooLarge        Code = "too_large"
	CodeRequestTimeout  Code = "request_timeout"
	CodeNotIdempotent   Code = "not_idempotent"
	CodeBusy            Code = "busy"
	CodeTooDeep         Code = "too_deep"
	CodeStartFailed     Code = "start_failed"
	CodeFunctionError   Code = "function_error"
	CodeUnknownOutcome  Code = "unknown_outcome"
	CodeTimeout         Code = "timeout"
	CodeCanceled        Code = "canceled"
	CodeDraining        Code = "draining"
	CodeNoQuorum        Code = "no_quorum"
	CodeOverloaded      Code = "overloaded"
	CodeNotImplemented  Code = "not_implemented"
	CodeLimit           Code = "limit"
	CodeNoNode          Code = "no_node"
	CodeUnavailable     Code = "unavailable"
	CodeInternal        Code = "internal"
)

// Resend tells what may be done with a call that got an error.
type Resend string

// The answers to "may I send this call again?".
const (
	// ResendNo means that sending it again gives the same answer.
	ResendNo Resend = "no"
	// ResendSafe means that the call certainly did not start.
	ResendSafe Resend = "safe"
	// ResendIfIdempotent means that it may have run.
	ResendIfIdempotent Resend = "if_idempotent"
)

// Problem is the error document (RFC 9457, application/problem+json).
type Problem struct {
	// Type is "urn:covey:error:" and the code.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`

	Code      Code   `json:"code"`
	RequestID string `json:"request_id"`
	Resend    Resend `json:"resend"`
	// Error is what the function raised, for [CodeFunctionError] alone.
	Error *FunctionError `json:"error,omitempty"`
}

// FunctionError is what a function raised, in the shape Lambda gave it.
type FunctionError struct {
	Type    string   `json:"errorType"`
	Message string   `json:"errorMessage"`
	Stack   []string `json:"stackTrace,omitempty"`
}
