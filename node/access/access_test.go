package access_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/access"
)

// known is a Tokens with one token.
type known struct{ token *state.Token }

func (k known) TokenByHash(hash [32]byte) *state.Token {
	if k.token != nil && k.token.Hash == hash {
		return k.token
	}
	return nil
}

func tokenFor(secret string, change func(*state.Token), scopes ...clusterpb.Scope) known {
	t := &state.Token{ID: "t1", Hash: access.HashOf(secret), Kind: clusterpb.TokenKind_TOKEN_KIND_API, Scopes: scopes}
	if change != nil {
		change(t)
	}
	return known{t}
}

func TestAuthenticateTellsCallersApart(t *testing.T) {
	t.Parallel()
	const read = clusterpb.Scope_SCOPE_READ
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	secret := access.NewSecret()
	for _, tc := range []struct {
		name   string
		tokens known
		header string
		want   error
	}{
		{"right", tokenFor(secret, nil, read), "Bearer " + secret, nil},
		{"scheme in lower case", tokenFor(secret, nil, read), "bearer " + secret, nil},
		{"no header", tokenFor(secret, nil, read), "", access.ErrNoToken},
		{"other scheme", tokenFor(secret, nil, read), "Basic " + secret, access.ErrNoToken},
		{"scheme alone", tokenFor(secret, nil, read), "Bearer ", access.ErrNoToken},
		{"unknown", tokenFor(secret, nil, read), "Bearer " + access.NewSecret(), access.ErrBadToken},
		{"endless", tokenFor(secret, nil, read), "Bearer " + strings.Repeat("x", 1<<16), access.ErrBadToken},
		{"one character off", tokenFor(secret, nil, read), "Bearer " + secret[:len(secret)-1], access.ErrBadToken},
		{"expired", tokenFor(secret, func(k *state.Token) { k.Expires = now }, read), "Bearer " + secret, access.ErrBadToken},
		{"about to expire", tokenFor(secret, func(k *state.Token) { k.Expires = now.Add(time.Millisecond) }, read), "Bearer " + secret, nil},
		{"join token", tokenFor(secret, func(k *state.Token) { k.Kind = clusterpb.TokenKind_TOKEN_KIND_JOIN }, read), "Bearer " + secret, access.ErrBadToken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := access.Authenticate(tc.tokens, tc.header, now)
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestScopesAllowWhatTheySay(t *testing.T) {
	t.Parallel()
	secret := access.NewSecret()
	for _, tc := range []struct {
		scope clusterpb.Scope
		want  []access.Action
	}{
		{clusterpb.Scope_SCOPE_READ, []access.Action{access.Read}},
		{clusterpb.Scope_SCOPE_INVOKE, []access.Action{access.Invoke}},
		{clusterpb.Scope_SCOPE_DEPLOY, []access.Action{access.Read, access.Invoke, access.Deploy}},
		{clusterpb.Scope_SCOPE_ADMIN, []access.Action{access.Read, access.Invoke, access.Deploy, access.Admin}},
		{clusterpb.Scope(99), nil},
	} {
		who, err := access.Authenticate(tokenFor(secret, nil, tc.scope), "Bearer "+secret, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, action := range []access.Action{access.Read, access.Invoke, access.Deploy, access.Admin} {
			want := false
			for _, a := range tc.want {
				want = want || a == action
			}
			if got := who.Allows(action, "default") == nil; got != want {
				t.Errorf("scope %v, action %v: allowed is %v, want %v", tc.scope, action, got, want)
			}
			if who.Any(action) != want {
				t.Errorf("scope %v, action %v: Any disagrees with Allows", tc.scope, action)
			}
		}
	}
}

func TestConfinedTokenStaysInItsApp(t *testing.T) {
	t.Parallel()
	secret := access.NewSecret()
	tokens := tokenFor(secret, func(k *state.Token) { k.App = "billing" }, clusterpb.Scope_SCOPE_ADMIN)
	who, err := access.Authenticate(tokens, "Bearer "+secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := who.Allows(access.Deploy, "billing"); err != nil {
		t.Errorf("own app: %v", err)
	}
	for _, app := range []state.AppName{"default", "billing2", access.Cluster} {
		if err := who.Allows(access.Read, app); !errors.Is(err, access.ErrDenied) {
			t.Errorf("app %q: got %v, want ErrDenied", app, err)
		}
	}
	if who.Sees("default") || !who.Sees("billing") {
		t.Error("sees another app, or not its own")
	}
}

func TestNobodyMayNothing(t *testing.T) {
	t.Parallel()
	for _, action := range []access.Action{access.Read, access.Invoke, access.Deploy, access.Admin} {
		if (access.Principal{}).Allows(action, "default") == nil {
			t.Errorf("the zero principal may %v", action)
		}
	}
}

func TestSecretsAreRecognised(t *testing.T) {
	t.Parallel()
	secret := access.NewSecret()
	if secret == access.NewSecret() {
		t.Fatal("two secrets are the same")
	}
	if !access.WellFormed(secret) {
		t.Errorf("%q is not well formed", secret)
	}
	swapped := []byte(secret)
	i := len(access.Prefix)
	swapped[i], swapped[i+1] = 'a'+(swapped[i]-'a'+1)%26, 'z'
	for _, text := range []string{"", access.Prefix, secret[:len(secret)-1], secret + "a", secret[1:], string(swapped), strings.ToUpper(secret)} {
		if access.WellFormed(text) {
			t.Errorf("%q passes for a token", text)
		}
	}
}

// Not parallel: it counts the allocations of the whole process.
func TestAuthenticateDoesNotAllocate(t *testing.T) {
	secret := access.NewSecret()
	var tokens access.Tokens = tokenFor(secret, nil, clusterpb.Scope_SCOPE_INVOKE)
	header, now := "Bearer "+secret, time.Now()
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := access.Authenticate(tokens, header, now); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per call", allocs)
	}
}

func FuzzWellFormed(f *testing.F) {
	f.Add(access.NewSecret())
	f.Add("covey_")
	f.Fuzz(func(t *testing.T, text string) {
		if access.WellFormed(text) && !strings.HasPrefix(text, access.Prefix) {
			t.Errorf("%q has no prefix", text)
		}
	})
}
