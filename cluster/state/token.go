package state

import (
	"slices"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// Token is a credential of which only the SHA-256 is known, or, of an access key,
// only what voters can open. Shared: do not change it.
type Token struct {
	ID TokenID
	// Hash is the SHA-256 of the secret, which is random and long, so a fast hash
	// without salt is enough. It is zero for an access key.
	Hash [32]byte
	Kind clusterpb.TokenKind
	// Scopes is empty for a join token.
	Scopes []clusterpb.Scope
	// App confines the token to one app; empty means all.
	App         AppName
	Description string
	Created     time.Time
	// Expires is zero for a token that does not expire.
	Expires time.Time
	// Uses is how many nodes may join with it; 0 means any number.
	Uses int
	// UsedBy are the nodes that joined with it, kept only if Uses bounds them.
	UsedBy []NodeID
	// Sealed is the secret of an access key, encrypted with the key-encryption key
	// under the token's id; empty for the other kinds.
	Sealed []byte
}

// Expired reports whether the token has ended at t.
func (k *Token) Expired(t time.Time) bool { return !k.Expires.IsZero() && !t.Before(k.Expires) }

// Has reports whether the token carries the scope itself; that admin includes
// the others is the caller's rule.
func (k *Token) Has(scope clusterpb.Scope) bool { return slices.Contains(k.Scopes, scope) }

// hashed reports whether the token is found by its secret's hash; an access key is
// found by its id.
func (k *Token) hashed() bool { return k.Kind != clusterpb.TokenKind_TOKEN_KIND_ACCESS_KEY }

func tokenFromPB(p *clusterpb.Token) *Token {
	k := &Token{
		ID: TokenID(p.GetId()), Kind: p.GetKind(), Scopes: p.GetScopes(), App: AppName(p.GetApp()),
		Description: p.GetDescription(), Created: fromMillis(p.GetCreatedUnixMs()),
		Expires: fromMillis(p.GetExpiresUnixMs()), Uses: int(p.GetUses()),
		Sealed: p.GetSealed(),
	}
	copy(k.Hash[:], p.GetHash())
	for _, n := range p.GetUsedBy() {
		k.UsedBy = append(k.UsedBy, NodeID(n))
	}
	return k
}

func (k *Token) toPB() *clusterpb.Token {
	p := &clusterpb.Token{
		Id: string(k.ID), Sealed: k.Sealed, Kind: k.Kind, Scopes: k.Scopes, App: string(k.App),
		Description: k.Description, CreatedUnixMs: millis(k.Created), ExpiresUnixMs: millis(k.Expires),
		Uses: uint32(k.Uses),
	}
	if k.hashed() {
		p.Hash = k.Hash[:]
	}
	for _, n := range k.UsedBy {
		p.UsedBy = append(p.UsedBy, string(n))
	}
	return p
}
