package trust_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/covey-dev/covey/cluster/trust"
)

func TestSealedSecretsOpenUnderTheirKeyAndName(t *testing.T) {
	t.Parallel()
	kek, secret := trust.NewSymmetricKey(), []byte("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
	sealed, err := trust.Seal(kek, "access-key:A", secret)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, secret[:8]) {
		t.Error("the secret is in what was sealed")
	}
	again, err := trust.Seal(kek, "access-key:A", secret)
	if err != nil || bytes.Equal(sealed, again) {
		t.Errorf("two sealings are the same (%v)", err)
	}
	got, err := trust.Unseal(kek, "access-key:A", sealed)
	if err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("opened to %q, %v", got, err)
	}
	if _, err := trust.Unseal(kek, "access-key:B", sealed); !errors.Is(err, trust.ErrSealBroken) {
		t.Errorf("under another name: %v", err)
	}
	if _, err := trust.Unseal(trust.NewSymmetricKey(), "access-key:A", sealed); !errors.Is(err, trust.ErrOtherKey) {
		t.Errorf("under another key: %v", err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := trust.Unseal(kek, "access-key:A", bad); !errors.Is(err, trust.ErrSealBroken) && !errors.Is(err, trust.ErrOtherKey) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	for n := range sealed {
		if _, err := trust.Unseal(kek, "access-key:A", sealed[:n]); err == nil {
			t.Errorf("opened when cut to %d bytes", n)
		}
	}
	for _, n := range []int{0, 16, 33} {
		if _, err := trust.Seal(make([]byte, n), "x", secret); err == nil {
			t.Errorf("sealed with a key of %d bytes", n)
		}
	}
}

func FuzzUnseal(f *testing.F) {
	kek := bytes.Repeat([]byte{7}, trust.SymmetricKeySize)
	sealed, err := trust.Seal(kek, "name", []byte("secret"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := trust.Unseal(kek, "name", data); err == nil && !bytes.Equal(data, sealed) {
			t.Fatalf("opened to %q", got)
		}
	})
}
