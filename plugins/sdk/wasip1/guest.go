//go:build wasip1

package wasip1

import (
	"encoding/json"
	"fmt"
	"os"
	"unsafe"
)

// The interface of the runtime `wasm`, described in plugins/runtime/wasm. The host reads and writes the memory
// before a call returns.

//go:wasmimport covey fail
func hostFail(typ *byte, typLen uint32, message *byte, messageLen uint32)

//go:wasmimport covey log
func hostLog(level uint32, message *byte, messageLen uint32)

//go:wasmimport covey invoke
func hostInvoke(name *byte, nameLen uint32, payload *byte, payloadLen uint32) uint64

//go:wasmimport covey result
func hostResult(to *byte)

//go:wasmimport covey set_content_type
func hostSetContentType(text *byte, textLen uint32)

//go:wasmimport covey set_status
func hostSetStatus(status uint32)

//go:wasmimport covey set_attribute
func hostSetAttribute(name *byte, nameLen uint32, value *byte, valueLen uint32)

//go:wasmimport covey cancelled
func hostCancelled() uint32

// Level is how much a log entry matters.
type Level uint32

// The levels.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
)

// Failure is an error of a function, with a type that callers can branch on.
type Failure struct {
	// Type is a short stable name such as "NotFound".
	Type string `json:"errorType"`
	// Message is for people.
	Message string `json:"errorMessage"`
	// Stack is where another function fell over the error, if it did.
	Stack string `json:"stackTrace"`
	// Unhandled is true if the other function did not return the error but fell over it.
	Unhandled bool `json:"unhandled"`
	// NotStarted is true if the other function certainly did not start, so that it may be tried again.
	NotStarted bool `json:"-"`
}

// Error returns type and message.
func (f *Failure) Error() string { return f.Type + ": " + f.Message }

// Fail ends the program, and the call with a typed error.
func Fail(typ, message string) {
	hostFail(unsafe.StringData(typ), uint32(len(typ)), unsafe.StringData(message), uint32(len(message)))
	os.Exit(1)
}

// Log writes a log entry, which may have several lines, under the call's request id.
func Log(level Level, message string) {
	hostLog(uint32(level), unsafe.StringData(message), uint32(len(message)))
}

// Invoke calls another function of the same app and returns its output. name may carry a qualifier, as in "resize:3" or
// "resize:beta". An error of that function is a *[Failure].
func Invoke(name string, payload []byte) ([]byte, error) {
	const kindShift, output, notStarted = 32, 0, 2
	n := hostInvoke(unsafe.StringData(name), uint32(len(name)), unsafe.SliceData(payload), uint32(len(payload)))
	answer := make([]byte, uint32(n))
	if len(answer) > 0 {
		hostResult(unsafe.SliceData(answer))
	}
	kind := n >> kindShift
	if kind == output {
		return answer, nil
	}
	f := &Failure{NotStarted: kind == notStarted}
	if err := json.Unmarshal(answer, f); err != nil {
		return nil, fmt.Errorf("invoke %s: read the error: %w", name, err)
	}
	return nil, f
}

// SetContentType sets the content type of the output. It and the other setters come before the first byte of
// output that is streamed.
func SetContentType(contentType string) {
	hostSetContentType(unsafe.StringData(contentType), uint32(len(contentType)))
}

// SetStatus sets the HTTP status that a web caller sees.
func SetStatus(status int) { hostSetStatus(uint32(status)) }

// SetAttribute adds an attribute to the output, such as an HTTP header for a web caller.
func SetAttribute(name, value string) {
	hostSetAttribute(unsafe.StringData(name), uint32(len(name)), unsafe.StringData(value), uint32(len(value)))
}

// Cancelled reports whether the caller has given up. A program that asks gets a tenth of a second to come to an
// end from then on; others are ended at once.
func Cancelled() bool { return hostCancelled() != 0 }
