package lambda

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// What comes from a function or its caller may be anything.

func FuzzFailure(f *testing.F) {
	f.Add("T", []byte(`{"errorType":"A","errorMessage":"b","stackTrace":["c",{"path":"d","line":1,"label":"e"},3]}`))
	f.Add("", []byte(`{"stackTrace":"text","trace":[]}`))
	f.Add("", []byte(`[]`))
	f.Fuzz(func(t *testing.T, typ string, body []byte) {
		if e := failureOf(typ, body); e.Type == "" {
			t.Error("an error without a type")
		}
	})
}

func FuzzTranslate(f *testing.F) {
	f.Add([]byte(`{"timestamp":"2026-01-02T03:04:05Z","level":"INFO","message":"m","requestId":"r","x":[1]}`))
	f.Add([]byte(`{"time":"2026-01-02T03:04:05Z","level":"warn","msg":"m"}`))
	f.Add([]byte(`{"timestamp":"2026-01-02T03:04:05Z","level":"FATAL","errorType":"T","errorMessage":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.IndexByte(line, '\n') >= 0 {
			return
		}
		_, structured := translate(line)
		if bytes.IndexByte(structured, '\n') >= 0 {
			t.Errorf("%q became two lines: %q", line, structured)
		}
		if !bytes.Equal(line, structured) && !json.Valid(structured) {
			t.Errorf("%q became %q", line, structured)
		}
	})
}

func FuzzLine(f *testing.F) {
	f.Add("id", "a\tb\"\\\n\x7f\xff é \U0001F99C")
	f.Fuzz(func(t *testing.T, id, message string) {
		line := appendLine(nil, time.Time{}, id, message)
		var got map[string]string
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if want := strings.ToValidUTF8(message, "\uFFFD"); utf8.ValidString(message) && got["@message"] != want {
			t.Errorf("got %q, want %q", got["@message"], want)
		}
	})
}

func FuzzHeaderJSON(f *testing.F) {
	f.Add("{\n\"a\": \"é\U0001F99C\x7f\"}")
	f.Fuzz(func(t *testing.T, text string) {
		got := headerJSON(text)
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q does not fit a header", got)
		}
		if got != "" && !json.Valid([]byte(got)) {
			t.Errorf("%q became %q", text, got)
		}
	})
}

func FuzzHeaders(f *testing.F) {
	f.Add("id\r\nX: y", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "{}")
	f.Fuzz(func(t *testing.T, id, trace, clientContext string) {
		i := &identity{arn: "arn", timeout: time.Second}
		c := new(call)
		c.RequestID, c.Trace = id, trace
		c.Attributes = map[string]string{attributeClientContext: clientContext}
		text := append(i.appendHeaders([]byte("HTTP/1.1 200 OK\r\n"), c), "\r\n"...)
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(text)), nil)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for name := range resp.Header {
			if !strings.HasPrefix(name, "Lambda-Runtime-") {
				t.Errorf("%q smuggled in %s", text, name)
			}
		}
	})
}
