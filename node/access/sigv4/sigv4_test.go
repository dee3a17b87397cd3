package sigv4_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/access/sigv4"
)

// The credentials of AWS's documentation.
const (
	docKey    = "AKIDEXAMPLE"
	docSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

var docTime = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)

// published is the example that AWS's documentation works through step by step.
const published = "GET /?Action=ListUsers&Version=2010-05-08 HTTP/1.1\r\n" +
	"Host: iam.amazonaws.com\r\n" +
	"Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n" +
	"X-Amz-Date: 20150830T123600Z\r\n" +
	"Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, " +
	"SignedHeaders=content-type;host;x-amz-date, " +
	"Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7\r\n\r\n"

// request reads a request as the server does.
func request(t testing.TB, text string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// verify does all of a verification.
func verify(r *http.Request, service, secret string, body []byte, now time.Time) error {
	claim, err := sigv4.Parse(r, service, now)
	if err != nil {
		return err
	}
	day := sigv4.DayKey(secret, claim.Day)
	if err := claim.VerifyHead(day); err != nil {
		return err
	}
	return claim.VerifyBody(day, body)
}

// refused wants an error with a code and a piece of its message.
func refused(t *testing.T, err error, code sigv4.Code, words string) {
	t.Helper()
	e, ok := errors.AsType[*sigv4.Error](err)
	if !ok || e.Code != code || !strings.Contains(e.Message, words) {
		t.Errorf("got %v, want %s with %q", err, code, words)
	}
}

func TestPublishedExampleVerifies(t *testing.T) {
	t.Parallel()
	claim, err := sigv4.Parse(request(t, published), "iam", docTime)
	if err != nil {
		t.Fatal(err)
	}
	if claim.KeyID != docKey || claim.Day != "20150830" {
		t.Errorf("key %q, day %q", claim.KeyID, claim.Day)
	}
	if err := claim.VerifyBody(sigv4.DayKey(docSecret, claim.Day), nil); err != nil {
		t.Error(err)
	}
	// The hashes that the documentation gives for the steps in between show in what
	// a client is told whose secret is wrong.
	err = claim.VerifyBody(sigv4.DayKey("wrong", claim.Day), nil)
	refused(t, err, sigv4.InvalidSignature, "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n"+
		"f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59'")
	refused(t, err, sigv4.InvalidSignature, "'GET\n/\nAction=ListUsers&Version=2010-05-08\n"+
		"content-type:application/x-www-form-urlencoded; charset=utf-8\nhost:iam.amazonaws.com\nx-amz-date:20150830T123600Z\n\n"+
		"content-type;host;x-amz-date\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'")
}

// golden is what testdata/generate.py wrote.
type golden struct {
	Key, Secret string
	Cases       []goldenCase
}

type goldenCase struct {
	Name, Head, Body, Repeat string
	Times                    int
}

func (c goldenCase) body() []byte {
	if c.Times > 0 {
		return bytes.Repeat([]byte(c.Repeat), c.Times)
	}
	return []byte(c.Body)
}

// signed returns when the case was signed.
func (c goldenCase) signed(t testing.TB) time.Time {
	t.Helper()
	for _, mark := range []string{"X-Amz-Date: ", "X-Amz-Date="} {
		if _, rest, ok := strings.Cut(c.Head, mark); ok {
			when, err := time.Parse("20060102T150405Z", rest[:16])
			if err != nil {
				t.Fatal(err)
			}
			return when
		}
	}
	t.Fatal("no date")
	return time.Time{}
}

func readGolden(t testing.TB) golden {
	t.Helper()
	raw, err := os.ReadFile("testdata/botocore.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Cases) < 15 {
		t.Fatalf("only %d cases", len(g.Cases))
	}
	return g
}

// TestRequestsOfARealClientVerify takes what AWS's own client put on the wire.
func TestRequestsOfARealClientVerify(t *testing.T) {
	t.Parallel()
	g := readGolden(t)
	for _, c := range g.Cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			now := c.signed(t)
			r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(c.Head), bytes.NewReader(c.body()))))
			if err != nil {
				t.Fatal(err)
			}
			if !sigv4.Signed(r) {
				t.Fatal("does not pass for signed")
			}
			err = verify(r, "lambda", g.Secret, c.body(), now)
			switch c.Name {
			case "unsigned payload":
				refused(t, err, sigv4.InvalidSignature, "neither unsigned nor chunk-signed")
				return
			case "wrongly hashed":
				refused(t, err, sigv4.InvalidSignature, "is not the SHA-256 of the payload")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			refused(t, verify(r, "lambda", g.Secret, append(c.body(), '!'), now), sigv4.InvalidSignature, "")
			refused(t, verify(r, "lambda", g.Secret+"!", c.body(), now), sigv4.InvalidSignature, "does not match")
			refused(t, verify(r, "s3", g.Secret, c.body(), now), sigv4.InvalidSignature, "correct service: 's3', not 'lambda'")
			for _, change := range []func(*http.Request){
				func(r *http.Request) { r.Method = "PUT" },
				func(r *http.Request) { r.Host = "other" },
				func(r *http.Request) { r.URL.Path, r.URL.RawPath = r.URL.Path+"x", "" },
				func(r *http.Request) { r.URL.RawQuery = "Qualifier=2&" + r.URL.RawQuery },
				func(r *http.Request) { r.Header.Set("X-Amz-Log-Type", "None") },
			} {
				other := r.Clone(t.Context())
				change(other)
				refused(t, verify(other, "lambda", g.Secret, c.body(), now), sigv4.InvalidSignature, "")
			}
		})
	}
}

func TestClockWindow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		shift time.Duration
		words string
	}{
		{"now", 0, ""},
		{"five minutes late", 5 * time.Minute, ""},
		{"later", 5*time.Minute + time.Second, "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"},
		{"five minutes early", -5 * time.Minute, ""},
		{"earlier", -5*time.Minute - time.Second, "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T123059Z + 5 min.)"},
	} {
		err := verify(request(t, published), "iam", docSecret, nil, docTime.Add(tc.shift))
		if tc.words == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		refused(t, err, sigv4.InvalidSignature, tc.words)
	}
}

func TestPresignedURLHoldsAsLongAsItSays(t *testing.T) {
	t.Parallel()
	g := readGolden(t)
	for _, c := range g.Cases {
		if c.Name != "presigned" {
			continue
		}
		signed, r := c.signed(t), request(t, c.Head)
		for _, shift := range []time.Duration{-5 * time.Minute, 0, 10 * time.Minute} {
			if err := verify(r, "lambda", g.Secret, nil, signed.Add(shift)); err != nil {
				t.Errorf("%v after signing: %v", shift, err)
			}
		}
		refused(t, verify(r, "lambda", g.Secret, nil, signed.Add(-6*time.Minute)), sigv4.InvalidSignature, "not yet current")
		refused(t, verify(r, "lambda", g.Secret, nil, signed.Add(601*time.Second)), sigv4.InvalidSignature, "for 600 seconds")
		r.Header.Set("X-Amz-Invocation-Type", "DryRun")
		refused(t, verify(r, "lambda", g.Secret, nil, signed), sigv4.InvalidSignature, "not signed: 'x-amz-invocation-type'")
		return
	}
	t.Fatal("no presigned case")
}

// TestMalformedSignaturesAreRefused changes one thing of the published example.
func TestMalformedSignaturesAreRefused(t *testing.T) {
	t.Parallel()
	const incomplete, invalid = sigv4.IncompleteSignature, sigv4.InvalidSignature
	for _, tc := range []struct {
		name, old, new string
		code           sigv4.Code
		words          string
	}{
		{"algorithm", "AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA1 ", incomplete, "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA1'"},
		{"another algorithm", "AWS4-HMAC-SHA256 ", "AWS4-ECDSA-P256-SHA256 ", incomplete, "Unsupported"},
		{"version 2", "AWS4-HMAC-SHA256 Credential", "AWS key:c2ln Credential", incomplete, "Unsupported"},
		{"no signature", "Signature=5d", "Sig=5d", incomplete, "malformed"},
		{"signature cut", "Signature=5d672d", "Signature=5d672", incomplete, "64 hexadecimal digits"},
		{"signature of something", "Signature=5d", "Signature=zz", incomplete, "64 hexadecimal digits"},
		{"signature twice", "Signature=5d", "Signature=aa, Signature=5d", incomplete, "each once"},
		{"empty signature", "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7", "", incomplete, "requires 'Signature' parameter"},
		{"nothing", " Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7", "", incomplete, "malformed"},
		{"credential of four", "/us-east-1/", "/", incomplete, "5 slash-delimited elements"},
		{"credential of six", "/us-east-1/", "/us/east-1/", incomplete, "5 slash-delimited elements"},
		{"no region", "/us-east-1/", "//", incomplete, "5 slash-delimited elements"},
		{"long region", "us-east-1", strings.Repeat("x", 200), incomplete, "…"},
		{"terminator", "aws4_request", "aws3_request", invalid, "valid terminator: 'aws4_request', not 'aws3_request'"},
		{"service", "/iam/", "/lambda/", invalid, "correct service: 'iam', not 'lambda'"},
		{"scope of another day", "AKIDEXAMPLE/20150830", "AKIDEXAMPLE/20150831", invalid, "'20150831' != '20150830'"},
		{"another region", "us-east-1", "us-east-2", invalid, "does not match"},
		{"another time", "20150830T123600Z", "20150830T123601Z", invalid, "does not match"},
		{"no date", "X-Amz-Date: 20150830T123600Z\r\n", "", incomplete, "either a 'X-Amz-Date' or a 'Date'"},
		{"two dates", "X-Amz-Date: 20150830T123600Z\r\n", "X-Amz-Date: 20150830T123600Z\r\nX-Amz-Date: 20150830T123600Z\r\n", incomplete, "either"},
		{"other form of date", "X-Amz-Date: 20150830T123600Z", "X-Amz-Date: 2015-08-30T12:36:00Z", incomplete, "basic format"},
		{"date not signed", "X-Amz-Date", "Date", invalid, "'Date' must be a 'SignedHeader'"},
		{"host not signed", "content-type;host;x-amz-date", "content-type;x-amz-date", invalid, "'Host' must be a 'SignedHeader'"},
		{"time not signed", "content-type;host;x-amz-date", "content-type;host", invalid, "not signed: 'x-amz-date'"},
		{"header not signed", "X-Amz-Date:", "X-Amz-Log-Type: Tail\r\nX-Amz-Date:", invalid, "not signed: 'x-amz-log-type'"},
		{"headers not sorted", "content-type;host", "host;content-type", incomplete, "alphabetical"},
		{"headers twice", "content-type;host", "content-type;host;host", incomplete, "alphabetical"},
		{"header in upper case", "content-type;host", "Content-Type;host", incomplete, "lower-case"},
		{"no headers", "SignedHeaders=content-type;host;x-amz-date", "SignedHeaders=;", incomplete, "lower-case"},
		{"session token", "X-Amz-Date:", "X-Amz-Security-Token: abc\r\nX-Amz-Date:", sigv4.UnrecognizedClient, "AWS_SESSION_TOKEN"},
		{"session token in query", "?Action", "?X-Amz-Security-Token=abc&Action", sigv4.UnrecognizedClient, "session token"},
		{"both ways", "?Action", "?X-Amz-Signature=abc&Action", incomplete, "Only one way"},
		{"two headers", "X-Amz-Date:", "Authorization: Bearer x\r\nX-Amz-Date:", incomplete, "Only one way"},
		{"bad query", "?Action", "?a=%zz&Action", invalid, "query string is malformed"},
		{"semicolon in query", "?Action", "?a;b&Action", invalid, "query string is malformed"},
		{"another header's value", "charset=utf-8", "charset=utf-7", invalid, "does not match"},
		{"bad payload hash", "X-Amz-Date:", "X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nX-Amz-Date:", invalid, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(published, tc.old, tc.new, 1)
			if text == published {
				t.Fatal("nothing was changed")
			}
			refused(t, verify(request(t, text), "iam", docSecret, nil, docTime), tc.code, tc.words)
		})
	}
}

func TestMalformedPresignedURLsAreRefused(t *testing.T) {
	t.Parallel()
	g := readGolden(t)
	var c goldenCase
	for _, c = range g.Cases {
		if c.Name == "presigned" {
			break
		}
	}
	for _, tc := range []struct{ old, new, words string }{
		{"X-Amz-Algorithm=AWS4-HMAC-SHA256&", "", "must include 'X-Amz-Algorithm'"},
		{"AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1", "Unsupported"},
		{"X-Amz-Credential=", "X=", "must include 'X-Amz-Credential'"},
		{"X-Amz-Expires=600", "X-Amz-Expires=0", "1 to 604800"},
		{"X-Amz-Expires=600", "X-Amz-Expires=604801", "1 to 604800"},
		{"X-Amz-Expires=600", "X-Amz-Expires=-5", "1 to 604800"},
		{"X-Amz-Expires=600", "X-Amz-Expires=600&X-Amz-Expires=700", "once"},
		{"X-Amz-Date=2", "X-Amz-Date=x2", "basic format"},
		{"X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=Host", "lower-case"},
		{"X-Amz-Signature=", "X-Amz-Signature=0", "64 hexadecimal digits"},
	} {
		text := strings.Replace(c.Head, tc.old, tc.new, 1)
		refused(t, verify(request(t, text), "lambda", g.Secret, nil, c.signed(t)), sigv4.IncompleteSignature, tc.words)
	}
}

// Not parallel: it counts the allocations of the whole process.
func TestSignedKnowsWhoIsAsking(t *testing.T) {
	for text, want := range map[string]bool{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":                                                                     false,
		"GET /?X-Amz-Signature=1 HTTP/1.1\r\nHost: x\r\n\r\n":                                                   true,
		"GET /?X-Amz-Algorithm=1 HTTP/1.1\r\nHost: x\r\n\r\n":                                                   true,
		"GET /?X-Amz-Signature=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer covey_a\r\n\r\n":                  false,
		"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer covey_a\r\n\r\n":                                    false,
		"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: AWS AKID:sig\r\n\r\n":                                      true,
		"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: AWS4-HMAC-SHA256 Credential=a\r\n\r\n":                     true,
		"GET /?Qualifier=live HTTP/1.1\r\nHost: x\r\nAuthorization: Basic AWS4-HMAC-SHA256 Credential=\r\n\r\n": false,
	} {
		r := request(t, text)
		if got := sigv4.Signed(r); got != want {
			t.Errorf("%q: %v", text, got)
		}
		if n := testing.AllocsPerRun(10, func() { sigv4.Signed(r) }); n != 0 {
			t.Errorf("%q: %v allocations", text, n)
		}
	}
}
