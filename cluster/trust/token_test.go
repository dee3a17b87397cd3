package trust

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testToken() JoinToken {
	return JoinToken{
		CAHash: strings.Repeat("0a", 32), Cluster: "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
		ID: "01JDX5", Secret: NewSecret(), Addresses: []string{"10.0.0.1:7071", "[fd00::1]:7071", "node-c:7071"},
	}
}

func TestJoinTokenRoundTrip(t *testing.T) {
	t.Parallel()
	want := testToken()
	got, err := ParseJoinToken(" " + want.String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("token differs (-want +got):\n%s", diff)
	}
}

func TestMalformedJoinTokensAreRefused(t *testing.T) {
	t.Parallel()
	good := testToken().String()
	for name, text := range map[string]string{
		"empty":           "",
		"short form":      "secret",
		"no hash":         strings.Replace(good, strings.Repeat("0a", 32), "", 1),
		"cut":             good[:40],
		"no address":      good[:strings.Index(good, "@")+1],
		"bad address":     good + ",",
		"port missing":    good + ",10.0.0.9",
		"space in middle": strings.Replace(good, "::", ":: ", 1),
	} {
		if _, err := ParseJoinToken(text); !errors.Is(err, ErrBadToken) {
			t.Errorf("%s: error is %v, want ErrBadToken", name, err)
		}
	}
}

func FuzzParseJoinToken(f *testing.F) {
	f.Add(testToken().String())
	f.Add("K10::@")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseJoinToken(text)
		if err != nil {
			return
		}
		again, err := ParseJoinToken(token.String())
		if err != nil || !cmp.Equal(token, again) {
			t.Fatalf("%q reads back as %v, %v", text, again, err)
		}
	})
}
