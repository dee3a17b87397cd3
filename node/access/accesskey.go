package access

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// KeyPrefix starts the id of every access key. AWS's own begin with AKIA or ASIA;
// ours differ, so that neither people nor leak scanners take one for the other.
const KeyPrefix = "CVKA"

// The lengths are those of AWS's keys, because tools know them by that.
const (
	keyIDRandom   = 10 // bytes, 16 characters in base32
	keySecretSize = 30 // bytes, 40 characters in base64
)

// NewAccessKey makes an access key: its id and its secret. The caller shows the
// secret once and keeps it sealed.
func NewAccessKey() (id state.TokenID, secret string) {
	var raw [keyIDRandom + keySecretSize]byte
	_, _ = rand.Read(raw[:]) // ends the program rather than fail
	id = state.TokenID(KeyPrefix + base32.StdEncoding.EncodeToString(raw[:keyIDRandom]))
	return id, base64.StdEncoding.EncodeToString(raw[keyIDRandom:])
}

// SealName is the name that an access key's secret is sealed under.
func SealName(id state.TokenID) string { return "access-key:" + string(id) }

// Keys finds access keys. [state.View] is one.
type Keys interface {
	// Token returns nil for an unknown id.
	Token(id state.TokenID) *state.Token
}

// FindKey returns the access key with an id, or [ErrUnknownKey] or [ErrExpiredKey].
// That a request names a key proves nothing yet.
func FindKey(keys Keys, id string, now time.Time) (*state.Token, error) {
	token := keys.Token(state.TokenID(id))
	switch {
	case token == nil || token.Kind != clusterpb.TokenKind_TOKEN_KIND_ACCESS_KEY:
		return nil, ErrUnknownKey
	case token.Expired(now):
		return nil, ErrExpiredKey
	}
	return token, nil
}

// HolderOf returns who a request comes from that was signed with an access key. The
// caller has verified the signature.
func HolderOf(key *state.Token) Principal { return holder(key) }
