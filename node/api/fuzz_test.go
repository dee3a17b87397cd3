package api

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`{"a":1}`, `{"a":{"a":[{"a":1}]}}`, `{"a":1,"a":2}`, `[1,"x",null]`, `"x"`, `{} {}`, `{"a"`, strings.Repeat("[", 70)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.TrimSpace(text) == "" {
			return // decode takes it for no body
		}
		if checkJSON([]byte(text)) == nil && !json.Valid([]byte(text)) {
			t.Errorf("%q passes and is not JSON", text)
		}
	})
}

func FuzzLambdaName(f *testing.F) {
	for _, seed := range []string{"fn", "fn:live", "app/fn:1", "arn:aws:lambda:r:123456789012:function:fn:1", ":::", "123456789012:fn"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		app, name, _, err := lambdaName(text)
		if err == nil && (app == "" || name == "" || strings.Contains(string(name), ":")) {
			t.Errorf("%q is %q/%q", text, app, name)
		}
	})
}

func FuzzPlainPath(f *testing.F) {
	for _, seed := range []string{"/a/b", "/a/../b", "/a/./b", "//", "/a/..", "/..a/b", "/%2e%2e/x", "*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.ParseRequestURI(text)
		if err != nil || !plainPath(u) {
			return
		}
		for _, segment := range strings.Split(u.Path, "/") {
			if segment == "." || segment == ".." || strings.ContainsRune(segment, 0) {
				t.Errorf("%q passes with the segment %q", text, segment)
			}
		}
	})
}
