package sigv4

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// algorithm is the only one that is understood.
	algorithm = "AWS4-HMAC-SHA256"
	// terminator ends every credential scope.
	terminator = "aws4_request"
	// basicTime is how AWS writes times, dayForm their day.
	basicTime = "20060102T150405Z"
	dayForm   = "20060102"
	// maxScope bounds the parts of a credential that come from the client.
	maxScope = 128
)

// Window is how far a request's time may be from the node's.
const Window = 5 * time.Minute

// MaxExpires is the longest time for which a URL can be presigned.
const MaxExpires = 7 * 24 * time.Hour

// Claim is what a request says about who signed it. It belongs to the request that
// it was parsed from, which must not be changed meanwhile.
type Claim struct {
	// KeyID is the access key's id.
	KeyID string
	// Day is the date of the signature, YYYYMMDD.
	Day string

	r         *http.Request
	region    string
	service   string
	timestamp string // as it is signed
	// names are the signed headers, sorted; list is how the client wrote them.
	names     []string
	list      string
	signature [32]byte
	// declared is the body's hash that a header gives; empty if none does.
	declared  string
	presigned bool
}

// Signed reports whether the request carries a signature of AWS's, good or bad:
// then [Parse] is for it. A request with another kind of Authorization is not
// signed, whatever its query says. It does not allocate.
func Signed(r *http.Request) bool {
	if auth := r.Header["Authorization"]; len(auth) > 0 {
		return strings.HasPrefix(auth[0], "AWS")
	}
	return strings.Contains(r.URL.RawQuery, "X-Amz-Signature=") || strings.Contains(r.URL.RawQuery, "X-Amz-Algorithm=")
}

// Parse reads the signature of a request that arrived at now and is for a service.
// Its error is an [*Error]. A claim is no proof: that is what Verify is for.
func Parse(r *http.Request, service string, now time.Time) (*Claim, error) {
	c := &Claim{r: r, service: service}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("The query string is malformed, so that no signature can cover it.")
	}
	auth := r.Header["Authorization"]
	c.presigned = len(auth) == 0
	switch {
	case len(auth) > 1 || len(auth) == 1 && (query.Has("X-Amz-Signature") || query.Has("X-Amz-Algorithm")):
		return nil, incomplete("Only one way to authenticate may be used: one Authorization header or one set of query-string parameters.")
	case len(r.Header["X-Amz-Security-Token"]) > 0 || query.Has("X-Amz-Security-Token"):
		return nil, &Error{Code: UnrecognizedClient, Message: "The security token included in the request is invalid. " +
			"Access keys of this cluster have no session token: unset AWS_SESSION_TOKEN."}
	}
	var p parts
	if c.presigned {
		p, err = fromQuery(query)
	} else {
		p, err = fromHeader(auth[0], r.Header)
	}
	if err != nil {
		return nil, err
	}
	for _, step := range []func(parts) error{c.credential, c.headers, c.payload} {
		if err := step(p); err != nil {
			return nil, err
		}
	}
	return c, c.time(p, now)
}

// parts are the texts that a signature consists of.
type parts struct {
	credential, signedHeaders, signature string
	// date is the request's time; httpDate says that it came from the header Date.
	date     time.Time
	httpDate bool
	// expires is how long a presigned URL holds.
	expires time.Duration
}

// fromHeader takes the Authorization header apart.
func fromHeader(auth string, header http.Header) (parts, error) {
	name, rest, _ := strings.Cut(auth, " ")
	if name != algorithm {
		return parts{}, unsupported(name)
	}
	var p parts
	for field := range strings.SplitSeq(rest, ",") {
		key, value, ok := strings.Cut(strings.Trim(field, " "), "=")
		var into *string
		switch key {
		case "Credential":
			into = &p.credential
		case "SignedHeaders":
			into = &p.signedHeaders
		case "Signature":
			into = &p.signature
		}
		if !ok || into == nil || *into != "" {
			return parts{}, incomplete("The Authorization header is malformed: it must be " +
				algorithm + " Credential=…, SignedHeaders=…, Signature=…, each once.")
		}
		*into = value
	}
	var missing []string
	for _, need := range []struct{ name, value string }{
		{"Credential", p.credential}, {"Signature", p.signature}, {"SignedHeaders", p.signedHeaders},
	} {
		if need.value == "" {
			missing = append(missing, "Authorization header requires '"+need.name+"' parameter.")
		}
	}
	basic, date := header["X-Amz-Date"], header["Date"]
	var err error
	switch {
	case len(basic) == 1:
		p.date, err = time.Parse(basicTime, basic[0])
	case len(basic) == 0 && len(date) == 1:
		p.httpDate = true
		if p.date, err = http.ParseTime(date[0]); err != nil {
			p.date, err = time.Parse(basicTime, date[0])
		}
	default:
		missing = append(missing, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	}
	if len(missing) > 0 {
		return parts{}, incomplete(strings.Join(missing, " "))
	}
	if err != nil {
		return parts{}, incomplete("Date must be in ISO-8601 'basic format', such as 20150830T123600Z.")
	}
	return p, nil
}

// fromQuery takes the parameters of a presigned URL.
func fromQuery(query url.Values) (parts, error) {
	var p parts
	var name, date, expires string
	for _, want := range []struct {
		name string
		into *string
	}{
		{"X-Amz-Algorithm", &name},
		{"X-Amz-Credential", &p.credential},
		{"X-Amz-Signature", &p.signature},
		{"X-Amz-SignedHeaders", &p.signedHeaders},
		{"X-Amz-Date", &date},
		{"X-Amz-Expires", &expires},
	} {
		values := query[want.name]
		if len(values) != 1 || values[0] == "" {
			return parts{}, incomplete("AWS query-string parameters must include '" + want.name + "', once.")
		}
		*want.into = values[0]
	}
	if name != algorithm {
		return parts{}, unsupported(name)
	}
	var err error
	if p.date, err = time.Parse(basicTime, date); err != nil {
		return parts{}, incomplete("X-Amz-Date must be in ISO-8601 'basic format', such as 20150830T123600Z.")
	}
	seconds, err := strconv.ParseUint(expires, 10, 32)
	if err != nil || seconds == 0 || seconds > uint64(MaxExpires/time.Second) {
		return parts{}, incomplete("X-Amz-Expires must be a number of seconds from 1 to 604800, which is a week.")
	}
	p.expires = time.Duration(seconds) * time.Second
	return p, nil
}

func unsupported(name string) error {
	return incomplete("Unsupported AWS 'algorithm': " + quote(name) + ". Only " + algorithm + " is supported.")
}

// credential reads KEY/DAY/REGION/SERVICE/aws4_request. Any region will do: it is
// part of what is signed, and this cluster is in none.
func (c *Claim) credential(p parts) error {
	fields := strings.Split(p.credential, "/")
	strange := func(c rune) bool { return c <= ' ' || c > '~' }
	if len(fields) != 5 || slices.Contains(fields, "") || len(p.credential) > maxScope || strings.ContainsFunc(p.credential, strange) {
		return incomplete("Credential must have 5 slash-delimited elements, KEY/YYYYMMDD/REGION/SERVICE/" + terminator +
			", got " + quote(p.credential) + ".")
	}
	c.KeyID, c.Day, c.region = fields[0], fields[1], fields[2]
	c.timestamp = p.date.UTC().Format(basicTime)
	switch {
	case fields[4] != terminator:
		return invalid("Credential should be scoped with a valid terminator: '" + terminator + "', not " + quote(fields[4]) + ".")
	case fields[3] != c.service:
		return invalid("Credential should be scoped to correct service: '" + c.service + "', not " + quote(fields[3]) + ".")
	case c.Day != c.timestamp[:len(dayForm)]:
		return invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: " +
			quote(c.Day) + " != '" + c.timestamp[:len(dayForm)] + "', from '" + c.timestamp + "'.")
	}
	return nil
}

// headers reads the list of signed headers and sees that it covers what it must.
func (c *Claim) headers(p parts) error {
	c.list, c.names = p.signedHeaders, strings.Split(p.signedHeaders, ";")
	for i, name := range c.names {
		if !isHeaderName(name) || i > 0 && c.names[i-1] >= name {
			return incomplete("SignedHeaders must be lower-case names of headers in alphabetical order, separated by ';'.")
		}
	}
	if !c.covers("host") {
		return invalid("'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if p.httpDate && !c.covers("date") {
		return invalid("'Date' must be a 'SignedHeader' in the AWS Authorization, since there is no 'X-Amz-Date'.")
	}
	for name := range c.r.Header {
		// Whoever passes a request on must not be able to change what it asks for.
		if strings.HasPrefix(name, "X-Amz-") && !c.covers(strings.ToLower(name)) {
			return invalid("There were headers present in the request which were not signed: " + quote(strings.ToLower(name)) + ".")
		}
	}
	signature, err := hex.DecodeString(p.signature)
	if err != nil || len(signature) != len(c.signature) {
		return incomplete("Signature must be 64 hexadecimal digits.")
	}
	copy(c.signature[:], signature)
	return nil
}

func (c *Claim) covers(name string) bool {
	_, ok := slices.BinarySearch(c.names, name)
	return ok
}

// payload reads the body's hash, where the client sends one. AWS's clients leave it
// out for services other than S3: then the body itself is what was signed.
func (c *Claim) payload(parts) error {
	values := c.r.Header["X-Amz-Content-Sha256"]
	if len(values) == 0 {
		return nil
	}
	sum, err := hex.DecodeString(values[0])
	if err != nil || len(sum) != 32 || len(values) > 1 {
		return invalid("The value of 'x-amz-content-sha256' must be the SHA-256 of the payload in hexadecimal: " +
			"this service takes neither unsigned nor chunk-signed payloads.")
	}
	c.declared = values[0]
	return nil
}

// time refuses a signature that is not of now, in AWS's words, which show both
// times.
func (c *Claim) time(p parts, now time.Time) error {
	date, text := p.date, func(t time.Time) string { return t.UTC().Format(basicTime) }
	earliest, latest := now.Add(-Window), now.Add(Window)
	switch {
	case date.After(latest):
		return invalid("Signature not yet current: " + text(date) + " is still later than " + text(latest) +
			" (" + text(now) + " + 5 min.)")
	case c.presigned && now.After(date.Add(p.expires)):
		return invalid("Signature expired: " + text(date.Add(p.expires)) + " is now earlier than " + text(now) +
			" (the URL was signed at " + text(date) + " for " + strconv.Itoa(int(p.expires/time.Second)) + " seconds)")
	case !c.presigned && date.Before(earliest):
		return invalid("Signature expired: " + text(date) + " is now earlier than " + text(earliest) +
			" (" + text(now) + " - 5 min.)")
	}
	return nil
}

// isHeaderName reports whether s is a header's name in lower case (RFC 9110).
func isHeaderName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// quote shows a text of the client's, cut where it is long.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return "'" + s + "'"
}
