package lambda

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// xrayTrace turns a W3C traceparent into the form of AWS X-Ray, which splits the trace's id after its first
// four bytes. Anything else gives "".
func xrayTrace(traceparent string) string {
	const length = len("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	if len(traceparent) < length || traceparent[2] != '-' || traceparent[35] != '-' || traceparent[52] != '-' {
		return ""
	}
	trace, parent := traceparent[3:35], traceparent[36:52]
	flags, err := strconv.ParseUint(traceparent[53:55], 16, 8)
	if err != nil || !isHex(trace) || !isHex(parent) {
		return ""
	}
	return "Root=1-" + trace[:8] + "-" + trace[8:] + ";Parent=" + parent + ";Sampled=" + strconv.FormatUint(flags&1, 10)
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// headerJSON makes JSON fit a header: on one line, and in ASCII, because clients read headers in various
// encodings. Text that is not JSON gives "".
func headerJSON(text string) string {
	var compact bytes.Buffer
	if text == "" || json.Compact(&compact, []byte(text)) != nil {
		return ""
	}
	out := make([]byte, 0, compact.Len())
	for b := compact.Bytes(); len(b) > 0; {
		r, size := utf8.DecodeRune(b)
		b = b[size:]
		switch {
		case r < utf8.RuneSelf && r != 0x7f:
			out = append(out, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = appendEscaped(appendEscaped(out, high), low)
		default:
			out = appendEscaped(out, r)
		}
	}
	return string(out)
}

func appendEscaped(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
