package access

import (
	"crypto/subtle"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// maxSecret bounds what is hashed for a caller that is not known yet.
const maxSecret = 256

// Action is what a request wants to do. The scopes of a token allow it.
type Action uint8

// The actions. A route names the one that it needs.
const (
	// Read looks at functions, logs, usage and records.
	Read Action = iota + 1
	// Invoke calls a function.
	Invoke
	// Deploy changes functions and aliases.
	Deploy
	// Admin changes the cluster: nodes, tokens, limits, backups.
	Admin
)

// String returns the name of the scope that allows just this action.
func (a Action) String() string {
	switch a {
	case Read:
		return "read"
	case Invoke:
		return "invoke"
	case Deploy:
		return "deploy"
	case Admin:
		return "admin"
	default:
		return "unknown"
	}
}

// Cluster is given for the app when an action is on no app but on the cluster.
// A token that is confined to an app never allows such an action.
const Cluster state.AppName = ""

// Principal is an authenticated caller. The zero value may do nothing.
type Principal struct {
	// ID is the public id of the caller's token or access key, for records and logs.
	ID state.TokenID
	// App confines the caller to one app; empty means all.
	App state.AppName

	allowed uint8 // bit a is set when Action a is allowed
}

// Tokens finds what is known of a token. [state.View] is one.
type Tokens interface {
	// TokenByHash returns nil for an unknown hash.
	TokenByHash(hash [32]byte) *state.Token
}

// Authenticate returns who sends the given Authorization header at now, or
// [ErrNoToken] or [ErrBadToken]. It does not block and does not allocate.
func Authenticate(tokens Tokens, header string, now time.Time) (Principal, error) {
	secret, ok := bearer(header)
	if !ok {
		return Principal{}, ErrNoToken
	}
	if len(secret) > maxSecret {
		return Principal{}, ErrBadToken
	}
	hash := HashOf(secret)
	token := tokens.TokenByHash(hash)
	// The look-up compares hashes, whose timing tells nothing about a secret
	// that has them; the comparison here guards against a look-up by prefix.
	if token == nil || subtle.ConstantTimeCompare(token.Hash[:], hash[:]) != 1 {
		return Principal{}, ErrBadToken
	}
	if token.Kind != clusterpb.TokenKind_TOKEN_KIND_API || token.Expired(now) {
		return Principal{}, ErrBadToken
	}
	return holder(token), nil
}

// holder is the caller that a token or an access key speaks for.
func holder(token *state.Token) Principal {
	return Principal{ID: token.ID, App: token.App, allowed: allowed(token.Scopes)}
}

// Allows returns nil if the caller may do the action in the app, or [ErrDenied].
// For an action on the cluster as a whole app is [Cluster].
func (p Principal) Allows(action Action, app state.AppName) error {
	if p.allowed&(1<<action) == 0 {
		return ErrDenied
	}
	if p.App != "" && p.App != app {
		return ErrDenied
	}
	return nil
}

// Sees reports whether the caller may learn that something of the app exists.
func (p Principal) Sees(app state.AppName) bool { return p.App == "" || p.App == app }

// Any reports whether the caller's scopes allow the action somewhere.
func (p Principal) Any(action Action) bool { return p.allowed&(1<<action) != 0 }

// bearer returns the token in an Authorization header; the scheme's case does
// not matter (RFC 9110).
func bearer(header string) (string, bool) {
	const scheme = "bearer "
	if len(header) <= len(scheme) {
		return "", false
	}
	for i := range len(scheme) {
		c := header[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != scheme[i] {
			return "", false
		}
	}
	return header[len(scheme):], true
}

// allowed is what scopes add up to. Deploying includes reading and calling,
// because whoever deploys must see and try what he did; admin includes all.
func allowed(scopes []clusterpb.Scope) uint8 {
	var bits uint8
	for _, scope := range scopes {
		switch scope {
		case clusterpb.Scope_SCOPE_READ:
			bits |= 1 << Read
		case clusterpb.Scope_SCOPE_INVOKE:
			bits |= 1 << Invoke
		case clusterpb.Scope_SCOPE_DEPLOY:
			bits |= 1<<Deploy | 1<<Invoke | 1<<Read
		case clusterpb.Scope_SCOPE_ADMIN:
			bits |= 1<<Admin | 1<<Deploy | 1<<Invoke | 1<<Read
		default:
			// A scope of a newer release allows nothing here.
		}
	}
	return bits
}
