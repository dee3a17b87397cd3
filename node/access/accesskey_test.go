package access_test

import (
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/access"
)

// keys finds access keys by their ids.
type keys map[state.TokenID]*state.Token

func (k keys) Token(id state.TokenID) *state.Token { return k[id] }

func accessKey(id state.TokenID) *state.Token {
	return &state.Token{
		ID: id, Kind: clusterpb.TokenKind_TOKEN_KIND_ACCESS_KEY, Sealed: []byte("sealed " + id),
		Scopes: []clusterpb.Scope{clusterpb.Scope_SCOPE_INVOKE},
	}
}

func TestAccessKeysLookLikeThoseOfAWS(t *testing.T) {
	t.Parallel()
	id, secret := access.NewAccessKey()
	if !regexp.MustCompile(`^CVKA[A-Z2-7]{16}$`).MatchString(string(id)) {
		t.Errorf("id %q", id)
	}
	if !regexp.MustCompile(`^[A-Za-z0-9+/]{40}$`).MatchString(secret) {
		t.Errorf("secret %q", secret)
	}
	if other, again := access.NewAccessKey(); other == id || again == secret {
		t.Error("two keys are the same")
	}
}

func TestFindKey(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	ended := accessKey("ENDED")
	ended.Expires = now
	api := &state.Token{ID: "API", Kind: clusterpb.TokenKind_TOKEN_KIND_API}
	known := keys{"K": accessKey("K"), "ENDED": ended, "API": api}
	for id, want := range map[string]error{"K": nil, "ENDED": access.ErrExpiredKey, "API": access.ErrUnknownKey, "": access.ErrUnknownKey, "X": access.ErrUnknownKey} {
		if _, err := access.FindKey(known, id, now); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", id, err, want)
		}
	}
	who := access.HolderOf(known["K"])
	if who.ID != "K" || who.Allows(access.Invoke, "default") != nil || who.Allows(access.Read, "default") == nil {
		t.Errorf("the holder is %+v", who)
	}
	// An access key is no bearer token, not even by the hash that it does not have.
	if _, err := access.Authenticate(tokenFor("", func(k *state.Token) {
		k.Kind = clusterpb.TokenKind_TOKEN_KIND_ACCESS_KEY
	}), "Bearer x", now); !errors.Is(err, access.ErrBadToken) {
		t.Errorf("as a bearer token: %v", err)
	}
}
