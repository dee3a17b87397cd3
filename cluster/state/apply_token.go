package state

import (
	"slices"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// keepExpired is how long an expired token is kept, so that a person can see
// why it stopped working.
const keepExpired = 7 * day

// maxSealed bounds the encrypted secret of an access key, which has 77 bytes today.
const maxSealed = 512

// noToken is also the answer for a token of the wrong kind: whoever tries API
// tokens at the join port learns nothing.
func noToken(id TokenID) *clusterpb.Refusal {
	return refuse(clusterpb.RefusalCode_REFUSAL_CODE_NOT_FOUND, "no token %q", clip(string(id)))
}

// putToken never replaces: a token that changes under its bearer is a new one.
func (d draft) putToken(p *clusterpb.Token) *clusterpb.Refusal {
	if err := checkToken(p); err != nil {
		return invalid("%v", err)
	}
	if p.GetKind() == clusterpb.TokenKind_TOKEN_KIND_ACCESS_KEY && d.level < AccessKeyLevel {
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_LEVEL,
			"access keys need feature level %d, the cluster is at %d: upgrade its nodes", AccessKeyLevel, d.level)
	}
	d.expireTokens()
	k := tokenFromPB(p)
	k.Created, k.UsedBy = d.Time(), nil
	if d.Token(k.ID) != nil || k.hashed() && d.TokenByHash(k.Hash) != nil {
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_EXISTS, "token %q, or one with its secret, exists already", k.ID)
	}
	if d.tokens.Len() >= maxTokens {
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_LIMIT,
			"the cluster has %d tokens already: revoke some, or let them expire", maxTokens)
	}
	d.setToken(k)
	return nil
}

// revokeToken removes the token at once and for good. A second revocation finds
// nothing and says so, since ids are typed by people.
func (d draft) revokeToken(id TokenID) *clusterpb.Refusal {
	k := d.Token(id)
	if k == nil {
		return noToken(id)
	}
	d.dropToken(k)
	return nil
}

// useJoinToken spends a use. A node whose join broke off tries again with the
// same id, and pays once.
func (d draft) useJoinToken(op *clusterpb.UseJoinToken) *clusterpb.Refusal {
	if err := checkID("node", op.GetNode()); err != nil {
		return invalid("%v", err)
	}
	node := NodeID(op.GetNode())
	k := d.Token(TokenID(op.GetId()))
	switch {
	case k == nil || k.Kind != clusterpb.TokenKind_TOKEN_KIND_JOIN:
		return noToken(TokenID(op.GetId()))
	case d.Removed(node):
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_REMOVED, "node id %s was removed from this cluster", node)
	case k.Expired(d.Time()):
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_EXPIRED, "the join token expired at %s", k.Expires.Format("2006-01-02 15:04:05Z"))
	// Unbounded tokens keep no list, which could grow with the cluster.
	case k.Uses == 0 || slices.Contains(k.UsedBy, node):
		return nil
	case len(k.UsedBy) >= k.Uses:
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_EXPIRED, "the join token was used %d times, as often as it may be", k.Uses)
	}
	used := *k
	used.UsedBy = append(slices.Clone(k.UsedBy), node)
	d.setToken(&used)
	return nil
}

// expireTokens drops tokens that expired long ago. It looks at all tokens, which
// are few, and only when one is added.
func (d draft) expireTokens() {
	before := d.Time().Add(-keepExpired)
	for k := range all(d.tokens, "") {
		if k.Expired(before) {
			d.dropToken(k)
		}
	}
}

// setToken keeps both tables of tokens in step.
func (d draft) setToken(k *Token) {
	d.tokens, _, _ = d.tokens.Insert([]byte(k.ID), k)
	if k.hashed() {
		d.tokenHashes, _, _ = d.tokenHashes.Insert(k.Hash[:], k)
	}
}

func (d draft) dropToken(k *Token) {
	d.tokens, _, _ = d.tokens.Delete([]byte(k.ID))
	if k.hashed() {
		d.tokenHashes, _, _ = d.tokenHashes.Delete(k.Hash[:])
	}
}

// checkToken keeps the kinds apart: what a join token opens is not bounded by
// scopes, an API token does not run out, and an access key has no hash that it
// could be found by.
func checkToken(t *clusterpb.Token) error {
	p := new(problems)
	if err := checkID("id", t.GetId()); err != nil {
		p.found = append(p.found, err)
	}
	p.text("description", t.GetDescription())
	p.check(t.GetExpiresUnixMs() >= 0, "expires_unix_ms is negative")
	p.check(t.GetUses() <= maxMembers, "uses is %d, at most %d are allowed", t.GetUses(), maxMembers)
	if t.GetApp() != "" {
		if err := checkApp(t.GetApp()); err != nil {
			p.found = append(p.found, err)
		}
	}
	p.check(len(t.GetScopes()) <= 8, "scopes: %d, at most 8 are allowed", len(t.GetScopes()))
	for _, s := range t.GetScopes() {
		p.check(s > clusterpb.Scope_SCOPE_UNSPECIFIED && s <= clusterpb.Scope_SCOPE_ADMIN, "scope %d is not a scope", s)
	}
	hash, sealed := len(t.GetHash()), len(t.GetSealed())
	if t.GetKind() != clusterpb.TokenKind_TOKEN_KIND_ACCESS_KEY {
		p.check(hash == 32, "hash has %d bytes, want the 32 of a SHA-256", hash)
		p.check(sealed == 0, "only access keys have a sealed secret")
	}
	switch t.GetKind() {
	case clusterpb.TokenKind_TOKEN_KIND_API:
		p.check(len(t.GetScopes()) > 0, "an API token needs a scope")
		p.check(t.GetUses() == 0, "only join tokens have uses")
	case clusterpb.TokenKind_TOKEN_KIND_JOIN:
		p.check(len(t.GetScopes()) == 0 && t.GetApp() == "", "a join token has no scope and no app")
	case clusterpb.TokenKind_TOKEN_KIND_ACCESS_KEY:
		p.check(len(t.GetScopes()) > 0, "an access key needs a scope")
		p.check(t.GetUses() == 0, "only join tokens have uses")
		p.check(hash == 0, "an access key has no hash")
		p.check(sealed > 0 && sealed <= maxSealed, "sealed has %d bytes, allowed is 1 to %d", sealed, maxSealed)
	default:
		p.check(false, "kind %d is not a kind of token", t.GetKind())
	}
	return p.err()
}
