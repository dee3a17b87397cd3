package api

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

// describe sets the headers that say where the call ran and what it took. All
// values are cut from one string, and their slices from one array, because each
// allocation here is paid by every warm call. A negative length leaves
// Content-Length to net/http.
func (in *invocation) describe(h http.Header, resp *invoke.Response, length int) {
	var ends [3]int
	b := in.sc.text[:0]
	b = appendVersion(b, resp)
	ends[0] = len(b)
	b = appendTiming(b, resp.Steps, time.Since(in.begin))
	ends[1] = len(b)
	if length >= 0 {
		b = strconv.AppendInt(b, int64(length), 10)
	}
	ends[2] = len(b)
	in.sc.text = b
	text := string(b)

	values := new([7]string)
	values[0], values[1], values[2] = in.id, text[:ends[0]], string(resp.Node)
	values[3], values[4] = start(resp.Cold), text[ends[0]:ends[1]]
	h[wire.HeaderRequestID] = values[0:1:1]
	h[wire.HeaderVersion] = values[1:2:2]
	h[wire.HeaderNode] = values[2:3:3]
	h[wire.HeaderStart] = values[3:4:4]
	h["Server-Timing"] = values[4:5:5]
	if length >= 0 {
		values[5] = text[ends[1]:ends[2]]
		h["Content-Length"] = values[5:6:6]
	}
	if _, set := h["Content-Type"]; !set {
		values[6] = contentType(resp)
		h["Content-Type"] = values[6:7:7]
	}
	if resp.LogTail != nil {
		h.Set(wire.HeaderLog, base64.StdEncoding.EncodeToString(resp.LogTail))
	}
	if in.s.draining.Load() {
		h.Set("Connection", "close")
	}
}

// contentType never lets net/http guess: what a function answers must not become
// HTML because it looks like it.
func contentType(resp *invoke.Response) string {
	if resp.ContentType == "" {
		return "application/octet-stream"
	}
	return resp.ContentType
}

func start(cold bool) string {
	if cold {
		return "cold"
	}
	return "warm"
}

// appendVersion writes what VersionKey.String returns, without its string.
func appendVersion(b []byte, resp *invoke.Response) []byte {
	b = append(b, resp.Version.App...)
	b = append(b, '/')
	b = append(b, resp.Version.Function...)
	b = append(b, ':')
	return strconv.AppendUint(b, uint64(resp.Version.Number), 10)
}

// appendTiming writes Server-Timing: each step and the total, in milliseconds.
func appendTiming(b []byte, steps []invoke.Step, total time.Duration) []byte {
	for _, step := range steps {
		b = append(b, step.Name...)
		b = append(b, ";dur="...)
		b = appendMillis(b, step.Took)
		b = append(b, ", "...)
	}
	b = append(b, "total;dur="...)
	return appendMillis(b, total)
}

// appendMillis writes d in milliseconds with three decimals.
func appendMillis(b []byte, d time.Duration) []byte {
	us := max(d.Microseconds(), 0)
	b = strconv.AppendInt(b, us/1000, 10)
	us %= 1000
	return append(b, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
}
