package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
	"time"
)

// Key is what an access key's secret and one day give. It opens nothing on other
// days and does not lead back to the secret, so it may be kept and passed on where
// the secret may not. The keys of all regions follow from it: a stranger who knows
// an access key's id can make up regions, and must not make anybody work for each.
type Key [sha256.Size]byte

// DayKey derives the key of a day, YYYYMMDD.
func DayKey(secret, day string) Key { return mac([]byte("AWS4"+secret), day) }

// Day returns the day of a time, as signatures name it.
func Day(t time.Time) string { return t.UTC().Format(dayForm) }

// ParseDay returns the beginning of a day; ok is false for anything else.
func ParseDay(day string) (t time.Time, ok bool) {
	t, err := time.Parse(dayForm, day)
	return t, err == nil
}

func mac(key []byte, text string) Key {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	var sum Key
	h.Sum(sum[:0])
	return sum
}

// VerifyHead compares the signature before the body is read, if the client sent
// the body's hash along; otherwise all is left to VerifyBody. Its error is an
// [*Error].
func (c *Claim) VerifyHead(day Key) error {
	if c.declared == "" {
		return nil
	}
	return c.compare(day, c.declared)
}

// VerifyBody proves that the whole request, with this body, was signed with the
// key. It is enough by itself. Its error is an [*Error].
func (c *Claim) VerifyBody(day Key, body []byte) error {
	sum := sha256.Sum256(body)
	payload := hex.EncodeToString(sum[:])
	if c.declared != "" {
		if !strings.EqualFold(c.declared, payload) {
			return invalid("The value of 'x-amz-content-sha256' is not the SHA-256 of the payload: it is '" +
				c.declared + "', the payload's is '" + payload + "'.")
		}
		payload = c.declared
	}
	return c.compare(day, payload)
}

// compare computes the signature that the request should have.
func (c *Claim) compare(day Key, payload string) error {
	var buf [1024]byte // enough for most requests
	request, err := c.appendRequest(buf[:0], payload)
	if err != nil {
		return err
	}
	var signBuf [256]byte
	toSign := c.appendToSign(signBuf[:0], sha256.Sum256(request))
	key := day
	for _, part := range []string{c.region, c.service, terminator} {
		key = mac(key[:], part)
	}
	want := hmac.New(sha256.New, key[:])
	want.Write(toSign)
	if subtle.ConstantTimeCompare(want.Sum(nil), c.signature[:]) == 1 {
		return nil
	}
	return mismatch(request, toSign)
}

// mostShown is the longest canonical request that is shown to its sender.
const mostShown = 8 << 10

// mismatch is AWS's answer to a wrong signature. Showing the client what it should
// have signed gives nothing away: all of it came from there.
func mismatch(request, toSign []byte) error {
	text := "The request signature we calculated does not match the signature you provided. " +
		"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	if len(request) <= mostShown {
		text += "\n\nThe Canonical String for this request should have been\n'" + strings.ToValidUTF8(string(request), "�") +
			"'\n\nThe String-to-Sign should have been\n'" + string(toSign) + "'\n"
	}
	return invalid(text)
}
