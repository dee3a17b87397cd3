package wire

// Headers of the native invocation route. All of them are stripped from what a
// function sees.
const (
	// HeaderRequestID carries the request id both ways. A caller may choose it
	// (see [ValidRequestID]) and must keep it when it sends a call again.
	HeaderRequestID = "X-Covey-Request-Id"
	// HeaderVersion names the version that ran, "app/name:3".
	HeaderVersion = "X-Covey-Version"
	// HeaderNode names the node that ran the call.
	HeaderNode = "X-Covey-Node"
	// HeaderStart is "cold" or "warm".
	HeaderStart = "X-Covey-Start"
	// HeaderFunctionError is set, to "Handled" or "Unhandled", when the function
	// failed rather than the platform.
	HeaderFunctionError = "X-Covey-Function-Error"
	// HeaderError carries the [Code] of an error of the platform. A function
	// cannot set it, so its absence tells a function's own status apart.
	HeaderError = "X-Covey-Error"
	// HeaderLog asks with "tail" for the end of the call's log, and carries it
	// back in base64.
	HeaderLog = "X-Covey-Log"
	// HeaderTimeout is how long the caller waits, in milliseconds.
	HeaderTimeout = "X-Covey-Timeout-Ms"
	// HeaderKey says which calls belong together: those with the same one get the same
	// version of a weighted alias and, if the function wants affinity, the same node.
	HeaderKey = "X-Covey-Key"
	// HeaderResend, set to "unknown", marks a call sent again after its outcome
	// became unknown: it runs only if the function declares itself idempotent,
	// and is refused with [CodeNotIdempotent] otherwise.
	HeaderResend = "X-Covey-Resend"
	// HeaderAttributePrefix starts the name of a header that becomes an attribute
	// of the call: "X-Covey-Attribute-Width: 200" is the attribute "width".
	HeaderAttributePrefix = "X-Covey-Attribute-"
	// HeaderIndex is the control state's index that an answer to a management
	// request stands for.
	HeaderIndex = "X-Covey-Index"
)

// ResendUnknown is the value of [HeaderResend].
const ResendUnknown = "unknown"

// maxRequestID is the longest request id that is taken from a caller.
const maxRequestID = 64

// ValidRequestID reports whether a caller may use id as a request id: 1 to 64
// letters, digits, dots, underscores and hyphens, which ULIDs and UUIDs are.
func ValidRequestID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
