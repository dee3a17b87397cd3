package trust

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/covey-dev/covey/cluster/state"
)

// tokenPrefix marks the full form, after k3s: a token without the authority's
// hash would make its bearer trust whoever answers.
const tokenPrefix = "K10"

// JoinToken is what a new machine needs to join: whom to call, how to
// recognise them, and the credential that they ask for. Lifetime and number
// of uses belong to the credential and are kept in the replicated state.
type JoinToken struct {
	CAHash    string // SHA-256 of the authority's certificate, in hex.
	Cluster   state.ClusterID
	ID        state.TokenID
	Secret    string
	Addresses []string // Peer addresses, host:port, in the order to try.
}

// tokenPattern takes a token apart. It is never changed.
var tokenPattern = regexp.MustCompile(
	`^K10([0-9a-f]{64})::([0-9A-Za-z-]{1,64}):([0-9A-Za-z_-]{1,64})\.([0-9A-Za-z_-]{16,128})@(.+)$`)

// String returns the token as operators pass it on:
// K10<hash>::<cluster>:<id>.<secret>@<address>[,<address>...].
func (t JoinToken) String() string {
	return fmt.Sprintf("%s%s::%s:%s.%s@%s", tokenPrefix, t.CAHash, t.Cluster, t.ID, t.Secret,
		strings.Join(t.Addresses, ","))
}

// ParseJoinToken reads what String wrote; anything else is ErrBadToken.
func ParseJoinToken(text string) (JoinToken, error) {
	parts := tokenPattern.FindStringSubmatch(strings.TrimSpace(text))
	if parts == nil {
		return JoinToken{}, ErrBadToken
	}
	t := JoinToken{
		CAHash: parts[1], Cluster: state.ClusterID(parts[2]),
		ID: state.TokenID(parts[3]), Secret: parts[4],
	}
	for address := range strings.SplitSeq(parts[5], ",") {
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" || port == "" || strings.ContainsAny(address, " \t\n") {
			return JoinToken{}, fmt.Errorf("%w: address %q", ErrBadToken, address)
		}
		t.Addresses = append(t.Addresses, address)
	}
	return t, nil
}

// NewSecret returns 256 random bits as text without characters that a shell
// would interpret.
func NewSecret() string {
	var b [32]byte
	// Read never fails: it ends the program where the kernel has no randomness.
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
