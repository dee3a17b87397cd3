// Package sigv4test signs requests in tests. It shares no code with the package
// that checks signatures, so that both cannot be wrong in the same way.
package sigv4test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Signer signs requests to Lambda as AWS's clients do: the host and every header
// X-Amz-….
type Signer struct {
	// ID and Secret are the access key.
	ID, Secret string
	// At is the time of the signature; zero is now.
	At time.Time
	// Hash is sent as the body's hash, unless it is empty; "body" stands for the
	// right one.
	Hash string
}

// Sign signs a request with a body. The query must be in canonical form.
func (s Signer) Sign(r *http.Request, body []byte) {
	if s.At.IsZero() {
		s.At = time.Now()
	}
	stamp := s.At.UTC().Format("20060102T150405Z")
	r.Header.Set("X-Amz-Date", stamp)
	payload := sum(body)
	if s.Hash != "" && s.Hash != "body" {
		payload = s.Hash
	}
	if s.Hash != "" {
		r.Header.Set("X-Amz-Content-Sha256", payload)
	}
	names := []string{"host"}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-") {
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	lines := []string{r.Method, twice(r.URL), r.URL.RawQuery}
	for _, name := range names {
		value := r.Header.Get(name)
		if name == "host" {
			if value = r.Host; value == "" {
				value = r.URL.Host
			}
		}
		lines = append(lines, name+":"+value)
	}
	lines = append(lines, "", strings.Join(names, ";"), payload)
	scope := stamp[:8] + "/eu-central-1/lambda/aws4_request"
	key := []byte("AWS4" + s.Secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	signature := mac(key, "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+sum([]byte(strings.Join(lines, "\n"))))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+s.ID+"/"+scope+
		", SignedHeaders="+strings.Join(names, ";")+", Signature="+hex.EncodeToString(signature))
}

// twice encodes a path for the second time.
func twice(u *url.URL) string {
	return strings.ReplaceAll(strings.ReplaceAll(u.EscapedPath(), "%", "%25"), ":", "%3A")
}

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
