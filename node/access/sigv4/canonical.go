package sigv4

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// appendRequest appends the canonical form of the request: what its signature is
// over. payload is the body's hash in hexadecimal, as the client wrote it.
func (c *Claim) appendRequest(dst []byte, payload string) ([]byte, error) {
	dst = append(dst, c.r.Method...)
	dst = append(dst, '\n')
	dst = appendPath(dst, c.r.URL.EscapedPath())
	dst = append(dst, '\n')
	dst, err := appendQuery(dst, c.r.URL.RawQuery, c.presigned)
	if err != nil {
		return nil, err
	}
	dst = append(dst, '\n')
	for _, name := range c.names {
		dst = append(dst, name...)
		dst = append(dst, ':')
		dst = appendHeader(dst, c.r, name)
		dst = append(dst, '\n')
	}
	dst = append(dst, '\n')
	dst = append(dst, c.list...)
	dst = append(dst, '\n')
	return append(dst, payload...), nil
}

// appendPath appends a path that came encoded, encoded once more, without empty
// and dot segments. The second encoding is the rule of all services but S3.
func appendPath(dst []byte, path string) []byte {
	if !strings.Contains(path, "//") && !strings.Contains(path, "/.") && strings.HasPrefix(path, "/") {
		return appendEncoded(dst, path, true)
	}
	var kept []string
	for segment := range strings.SplitSeq(path, "/") {
		switch segment {
		case "", ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, segment)
		}
	}
	for _, segment := range kept {
		dst = append(dst, '/')
		dst = appendEncoded(dst, segment, true)
	}
	if len(kept) == 0 || strings.HasSuffix(path, "/") {
		dst = append(dst, '/')
	}
	return dst
}

// appendQuery appends the query in canonical form: decoded as the handlers decode
// it, encoded in the one way that AWS prescribes, sorted by name, then by value.
// Of a presigned URL all is signed but the signature.
func appendQuery(dst []byte, raw string, presigned bool) ([]byte, error) {
	if raw == "" {
		return dst, nil
	}
	if strings.Contains(raw, ";") {
		return nil, errQuery() // url.ParseQuery drops such a pair
	}
	type pair struct{ name, value string }
	var pairs []pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, errQuery()
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, errQuery()
		}
		if presigned && name == "X-Amz-Signature" {
			continue
		}
		pairs = append(pairs, pair{string(appendEncoded(nil, name, false)), string(appendEncoded(nil, value, false))})
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		if a.name != b.name {
			return strings.Compare(a.name, b.name)
		}
		return strings.Compare(a.value, b.value)
	})
	for i, p := range pairs {
		if i > 0 {
			dst = append(dst, '&')
		}
		dst = append(dst, p.name...)
		dst = append(dst, '=')
		dst = append(dst, p.value...)
	}
	return dst, nil
}

func errQuery() error {
	return invalid("The query string is malformed, so that no signature can cover it.")
}

// appendHeader appends the values of a header, given in lower case, with their
// spaces trimmed: none at the ends, one inside. A header that is absent has the
// value "", which is what a client cannot have signed by mistake.
func appendHeader(dst []byte, r *http.Request, name string) []byte {
	switch name {
	case "host": // net/http keeps it apart
		return appendTrimmed(dst, r.Host)
	case "transfer-encoding": // likewise
		return appendTrimmed(dst, strings.Join(r.TransferEncoding, ","))
	case "content-length":
		if len(r.Header["Content-Length"]) == 0 && r.ContentLength >= 0 {
			return strconv.AppendInt(dst, r.ContentLength, 10)
		}
	}
	for i, value := range r.Header[http.CanonicalHeaderKey(name)] {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendTrimmed(dst, value)
	}
	return dst
}

// appendTrimmed appends a value with each run of spaces made one.
func appendTrimmed(dst []byte, value string) []byte {
	value = strings.Trim(value, " \t")
	for i := range len(value) {
		if value[i] == ' ' && value[i-1] == ' ' { // the first is no space
			continue
		}
		dst = append(dst, value[i])
	}
	return dst
}

// appendEncoded percent-encodes all but the unreserved characters of RFC 3986, and
// slashes where they are kept.
func appendEncoded(dst []byte, s string, slash bool) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			c == '-', c == '.', c == '_', c == '~', c == '/' && slash:
			dst = append(dst, c)
		default:
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		}
	}
	return dst
}

// appendToSign appends the string to sign for a canonical request's hash.
func (c *Claim) appendToSign(dst []byte, request [32]byte) []byte {
	dst = append(dst, algorithm+"\n"...)
	dst = append(dst, c.timestamp...)
	dst = append(dst, '\n')
	for _, part := range []string{c.Day, c.region, c.service} {
		dst = append(dst, part...)
		dst = append(dst, '/')
	}
	dst = append(dst, terminator+"\n"...)
	return hex.AppendEncode(dst, request[:])
}
