package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func newAuthority(t *testing.T, cluster state.ClusterID) *Authority {
	t.Helper()
	a, err := NewAuthority(cluster, noon)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newIdentity(t *testing.T, a *Authority, node state.NodeID, now time.Time) *Identity {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := NewRequest(key, node)
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.Sign(csr, node, now)
	if err != nil {
		t.Fatal(err)
	}
	id, err := NewIdentity(key, der)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAuthorityVerifiesItsOwnNodesOnly(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	same := newAuthority(t, "ours") // Another cluster that took our id.
	tests := []struct {
		name string
		id   *Identity
		now  time.Time
		want error
	}{
		{name: "ours", id: newIdentity(t, ours, "n1", noon), now: noon},
		{name: "ours before it began", id: newIdentity(t, ours, "n1", noon), now: noon.Add(-2 * time.Hour), want: errAny},
		{name: "ours at its last hour", id: newIdentity(t, ours, "n1", noon), now: noon.Add(CertificateLifetime - time.Hour)},
		{name: "ours expired", id: newIdentity(t, ours, "n1", noon), now: noon.Add(CertificateLifetime + time.Hour), want: errAny},
		{name: "ours expired, dates ignored", id: newIdentity(t, ours, "n1", noon)},
		{name: "foreign", id: newIdentity(t, theirs, "n1", noon), now: noon, want: ErrWrongCA},
		{name: "foreign with our id", id: newIdentity(t, same, "n1", noon), now: noon, want: ErrWrongCA},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			node, err := ours.Verify(tt.id.leaf, tt.now)
			switch {
			case tt.want == nil && err != nil:
				t.Fatalf("refused: %v", err)
			case tt.want == nil && node != "n1":
				t.Fatalf("node is %q, want n1", node)
			case tt.want == errAny && err == nil, tt.want != nil && tt.want != errAny && !errors.Is(err, tt.want):
				t.Fatalf("error is %v, want %v", err, tt.want)
			}
		})
	}
}

var errAny = errors.New("any error")

func TestSignIgnoresTheNameInTheRequest(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "c")
	key, _ := NewKey()
	csr, _ := NewRequest(key, "leader")
	der, err := a.Sign(csr, "worker", noon)
	if err != nil {
		t.Fatal(err)
	}
	id, err := NewIdentity(key, der)
	if err != nil {
		t.Fatal(err)
	}
	if id.Node() != "worker" {
		t.Fatalf("certificate names %q, want worker", id.Node())
	}
	if other, _ := NewKey(); true {
		if _, err := NewIdentity(other, der); err == nil {
			t.Fatal("identity accepts a certificate for another key")
		}
	}
}

func TestSignRefusesBadRequests(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "c")
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	wrongCurve, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p384)
	key, _ := NewKey()
	good, _ := NewRequest(key, "n")
	forged := append([]byte(nil), good...)
	forged[len(forged)-1] ^= 1
	for name, csr := range map[string][]byte{"empty": nil, "curve": wrongCurve, "signature": forged} {
		if _, err := a.Sign(csr, "n", noon); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%s: error is %v, want ErrBadRequest", name, err)
		}
	}
	if _, err := a.Sign(good, "", noon); !errors.Is(err, ErrBadRequest) {
		t.Errorf("empty id: error is %v, want ErrBadRequest", err)
	}
	if _, err := a.WithoutKey().Sign(good, "n", noon); !errors.Is(err, ErrNoAuthority) {
		t.Errorf("without key: error is %v, want ErrNoAuthority", err)
	}
}

func TestRenewalNeedsTheOldKey(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "c")
	old := newIdentity(t, a, "n1", noon.Add(-2*CertificateLifetime)) // Long expired.
	thief := newIdentity(t, a, "n2", noon)
	key, _ := NewKey()
	csr, _ := NewRequest(key, "n1")
	signature, err := old.SignRenewal(csr)
	if err != nil {
		t.Fatal(err)
	}
	node, err := a.VerifyRenewal(csr, old.Certificate(), signature)
	if err != nil || node != "n1" {
		t.Fatalf("renewal gives %q, %v; want n1", node, err)
	}
	stolen, _ := thief.SignRenewal(csr)
	if _, err := a.VerifyRenewal(csr, old.Certificate(), stolen); !errors.Is(err, ErrBadRequest) {
		t.Errorf("another node's signature: %v, want ErrBadRequest", err)
	}
	foreign := newIdentity(t, newAuthority(t, "c"), "n1", noon)
	signature, _ = foreign.SignRenewal(csr)
	if _, err := a.VerifyRenewal(csr, foreign.Certificate(), signature); !errors.Is(err, ErrWrongCA) {
		t.Errorf("another authority's node: %v, want ErrWrongCA", err)
	}
}

func TestRenewAtIsTwoThirdsOfTheLife(t *testing.T) {
	t.Parallel()
	id := newIdentity(t, newAuthority(t, "c"), "n", noon)
	life := id.Expires().Sub(noon)
	if life != CertificateLifetime {
		t.Fatalf("certificate lives %v, want %v", life, CertificateLifetime)
	}
	if got, want := id.RenewAt().Sub(noon), CertificateLifetime*2/3; got > want || got < want-backdate {
		t.Fatalf("renewal is due after %v, want about %v", got, want)
	}
}

func TestCredentialsSurviveReopening(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	a := newAuthority(t, "c")
	gossip, kek := NewSymmetricKey(), NewSymmetricKey()
	c, err := CreateCredentials(dir, a, newIdentity(t, a, "n1", noon), gossip, kek)
	if err != nil {
		t.Fatal(err)
	}
	renewed := newIdentity(t, a, "n1", noon.Add(time.Hour))
	if err := c.SetIdentity(renewed); err != nil {
		t.Fatal(err)
	}
	c, err = OpenCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Authority().CanSign() || c.Authority().Hash() != a.Hash() {
		t.Error("authority is not the one that was stored")
	}
	if diff := cmp.Diff([][]byte{gossip, kek, renewed.Certificate()},
		[][]byte{c.GossipKey(), c.KEK(), c.Identity().Certificate()}); diff != "" {
		t.Errorf("keys differ (-want +got):\n%s", diff)
	}
	assertPrivate(t, dir)
}

func assertPrivate(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", e.Name(), info.Mode())
		}
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("temporary file %s is left", e.Name())
		}
	}
}

func TestCustodyIsHandedOverAndWiped(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "c")
	kek := NewSymmetricKey()
	voter, err := CreateCredentials(t.TempDir(), a, newIdentity(t, a, "n1", noon), NewSymmetricKey(), kek)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	standby, err := CreateCredentials(dir, a.WithoutKey(), newIdentity(t, a, "n2", noon), NewSymmetricKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := standby.Custody(); ok {
		t.Fatal("standby has custody before it was handed over")
	}
	custody, _ := voter.Custody()
	der, sent, err := MarshalCustody(custody)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseCustody(der, sent)
	if err != nil {
		t.Fatal(err)
	}
	if err := standby.TakeCustody(got); err != nil {
		t.Fatal(err)
	}
	reopened, err := OpenCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := reopened.Custody(); !ok || string(reopened.KEK()) != string(kek) {
		t.Fatal("keys are not on the new voter's disk")
	}
	for range 2 { // Wiping is idempotent.
		if err := standby.DropCustody(); err != nil {
			t.Fatal(err)
		}
	}
	if standby.Authority().CanSign() || standby.KEK() != nil {
		t.Error("keys are still in memory")
	}
	for _, name := range []string{authorityKeyFile, kekFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}

func TestCustodyOfAnotherClusterIsRefused(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "c")
	c, err := CreateCredentials(t.TempDir(), a.WithoutKey(), newIdentity(t, a, "n", noon), NewSymmetricKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	other := newAuthority(t, "c")
	if err := c.TakeCustody(Custody{AuthorityKey: other.key, KEK: NewSymmetricKey()}); !errors.Is(err, ErrWrongCA) {
		t.Errorf("error is %v, want ErrWrongCA", err)
	}
	if err := c.TakeCustody(Custody{AuthorityKey: a.key}); !errors.Is(err, ErrBadRequest) {
		t.Errorf("without KEK: error is %v, want ErrBadRequest", err)
	}
	if c.Authority().CanSign() {
		t.Error("a refused hand-over left a key")
	}
}
