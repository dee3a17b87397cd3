package sigv4

// Code is AWS's name for a refusal, which its clients show and act on.
type Code string

// The refusals of this package and of those who use it.
const (
	// MissingToken: nothing in the request says who sends it.
	MissingToken Code = "MissingAuthenticationTokenException"
	// IncompleteSignature: the parts of a signature are missing or malformed.
	IncompleteSignature Code = "IncompleteSignatureException"
	// InvalidSignature: the signature is not that of the request, or not of now.
	InvalidSignature Code = "InvalidSignatureException"
	// UnrecognizedClient: the access key is unknown, or not of this kind.
	UnrecognizedClient Code = "UnrecognizedClientException"
	// ExpiredToken: the access key has ended.
	ExpiredToken Code = "ExpiredTokenException"
)

// Error is a refusal, for the client that signed the request.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return e.Message }

func incomplete(message string) error { return &Error{Code: IncompleteSignature, Message: message} }

func invalid(message string) error { return &Error{Code: InvalidSignature, Message: message} }
