package sigv4

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestCanonicalPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"":                        "/",
		"/":                       "/",
		"/a/b":                    "/a/b",
		"/a/b/":                   "/a/b/",
		"//a///b":                 "/a/b",
		"/a/./b/../c":             "/a/c",
		"/../../a":                "/a",
		"/a/..":                   "/",
		"/a/b/../":                "/a/",
		"/.hidden/..b":            "/.hidden/..b",
		"/arn%3Aaws":              "/arn%253Aaws",
		"/arn:aws":                "/arn%3Aaws",
		"/shop%2Fcart":            "/shop%252Fcart",
		"/%E1%88%B4":              "/%25E1%2588%25B4",
		"/-._~":                   "/-._~",
		"/example%20space/!*'(),": "/example%2520space/%21%2A%27%28%29%2C",
	} {
		if got := string(appendPath(nil, path)); got != want {
			t.Errorf("%q became %q, want %q", path, got, want)
		}
	}
}

func TestCanonicalQuery(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"":                            "",
		"a":                           "a=",
		"b=2&a=1":                     "a=1&b=2",
		"a=2&a=1&a=10":                "a=1&a=10&a=2",
		"A=1&a=1&a-b=1":               "A=1&a=1&a-b=1",
		"x=1+2":                       "x=1%202",
		"x=1%2B2&y=%7e":               "x=1%2B2&y=~",
		"x=a=b/c":                     "x=a%3Db%2Fc",
		"&&a=1&":                      "a=1",
		"X-Amz-Signature=abc&a=1":     "a=1",
		"X%2dAmz-Signature=abc&b=%31": "b=1",
		"%E1%88%B4=bar":               "%E1%88%B4=bar",
	} {
		got, err := appendQuery(nil, raw, true)
		if err != nil || string(got) != want {
			t.Errorf("%q became %q (%v), want %q", raw, got, err, want)
		}
	}
	if got, _ := appendQuery(nil, "X-Amz-Signature=abc", false); string(got) != "X-Amz-Signature=abc" {
		t.Errorf("outside of a presigned URL it became %q", got)
	}
	for _, raw := range []string{"a;b", "a=%", "%x=1", "a=%f"} {
		if got, err := appendQuery(nil, raw, false); err == nil {
			t.Errorf("%q became %q", raw, got)
		}
	}
}

func TestCanonicalHeaders(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("POST", "http://example.com:8080/", strings.NewReader("four"))
	r.Header = http.Header{
		"X-Spaces": {"  a   b  c  "}, "X-Many": {"one ", " two", ""}, "X-Quoted": {`"a   b"`}, "X-Tabs": {"\ta\t\tb "}, "X-Empty": {""},
	}
	for name, want := range map[string]string{
		"host": "example.com:8080", "content-length": "4", "x-spaces": "a b c", "x-many": "one,two,", "x-quoted": `"a b"`,
		"x-tabs": "a\t\tb", "x-empty": "", "x-absent": "", "transfer-encoding": "",
	} {
		if got := string(appendHeader(nil, r, name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	r.ContentLength = -1
	if got := string(appendHeader(nil, r, "content-length")); got != "" {
		t.Errorf("unknown length: %q", got)
	}
	r.Header.Set("Content-Length", "7")
	if got := string(appendHeader(nil, r, "content-length")); got != "7" {
		t.Errorf("length that was sent: %q", got)
	}
}

// FuzzAuthorization: no header makes Parse panic, and what it accepts is bounded
// and complete.
func FuzzAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=K/20150830/us-east-1/lambda/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + strings.Repeat("0f", 32))
	f.Add("AWS4-HMAC-SHA256 Credential=,SignedHeaders=,Signature=")
	f.Add("AWS4-HMAC-SHA256")
	f.Add("AWS a:b")
	now, ok := ParseDay("20150830")
	if !ok {
		f.Fatal("no day")
	}
	f.Fuzz(func(t *testing.T, auth string) {
		r := httptest.NewRequest("POST", "/x?a=1", nil)
		r.Header = http.Header{"Authorization": {auth}, "X-Amz-Date": {now.Format(basicTime)}}
		c, err := Parse(r, "lambda", now)
		if err != nil {
			return
		}
		if c.KeyID == "" || c.Day != "20150830" || len(c.KeyID) > maxScope || !slices.IsSorted(c.names) || !c.covers("host") || !c.covers("x-amz-date") {
			t.Fatalf("accepted %q as %+v", auth, c)
		}
		if err := c.VerifyBody(Key{}, nil); err == nil {
			t.Fatalf("a signature without the key: %q", auth)
		}
	})
}

// FuzzQuery: the canonical form means what the query means to a handler, is the
// canonical form of itself, and never panics.
func FuzzQuery(f *testing.F) {
	for _, raw := range []string{"a=1&b=2", "a=%2B+x&a", "%zz", "a;b", "X-Amz-Signature=1", "=&=", "a%3Db=c"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := appendQuery(nil, raw, false)
		want, parseErr := url.ParseQuery(raw)
		if (err == nil) != (parseErr == nil) && !strings.Contains(raw, ";") {
			t.Fatalf("%q: %v, net/url says %v", raw, err, parseErr)
		}
		if err != nil {
			return
		}
		again, err := appendQuery(nil, string(got), false)
		if err != nil || string(again) != string(got) {
			t.Fatalf("%q became %q, which became %q (%v)", raw, got, again, err)
		}
		meant, err := url.ParseQuery(string(got))
		if err != nil || len(meant) != len(want) {
			t.Fatalf("%q became %q, which means %v (%v), not %v", raw, got, meant, err, want)
		}
		for name, values := range want {
			slices.Sort(values)
			other := meant[name]
			slices.Sort(other)
			if !slices.Equal(values, other) {
				t.Fatalf("%q became %q, which means %v, not %v", raw, got, meant, want)
			}
		}
	})
}

// FuzzPath: never panics, and the canonical path keeps its segments.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"/", "", "//a/../b/./c%2F", "/../", "/a/.../b"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := string(appendPath(nil, path))
		if !strings.HasPrefix(got, "/") || strings.Contains(got, "//") || strings.Contains(got+"/", "/../") || strings.Contains(got+"/", "/./") {
			t.Fatalf("%q became %q", path, got)
		}
	})
}
