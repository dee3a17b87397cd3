package trust

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/state"
)

func newCredentials(t *testing.T, a *Authority, node state.NodeID, issued time.Time) *Credentials {
	t.Helper()
	c, err := CreateCredentials(t.TempDir(), a, newIdentity(t, a, node, issued), NewSymmetricKey(), NewSymmetricKey())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// handshake runs both ends of a connection and returns the client's error.
func handshake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	deadline := time.Now().Add(time.Minute)
	_ = a.SetDeadline(deadline)
	_ = b.SetDeadline(deadline)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Server(a, server).Handshake()
		_ = a.Close()
	}()
	err := tls.Client(b, client).Handshake()
	_ = b.Close()
	<-done
	return err
}

func TestJoinerAcceptsOnlyThePinnedAuthority(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	long := CertificateLifetime * 3
	tests := []struct {
		name    string
		server  *Credentials
		hash    string
		cluster state.ClusterID
		ok      bool
	}{
		{"right", newCredentials(t, ours, "n", noon), ours.Hash(), "ours", true},
		{"expired certificate", newCredentials(t, ours, "n", noon.Add(-long)), ours.Hash(), "ours", true},
		{"other authority", newCredentials(t, theirs, "n", noon), ours.Hash(), "ours", false},
		{"other cluster id", newCredentials(t, ours, "n", noon), ours.Hash(), "theirs", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := tt.server.TLS(func() time.Time { return noon })
			server.NextProtos = []string{"covey-join"}
			err := handshake(t, server, JoinClientConfig(tt.hash, tt.cluster, "covey-join"))
			if tt.ok && err != nil {
				t.Fatalf("refused: %v", err)
			}
			if !tt.ok && !errors.Is(err, ErrWrongCA) {
				t.Fatalf("error is %v, want ErrWrongCA", err)
			}
		})
	}
}

// TestJoinerSeesThroughAnImpostor: whoever shows the right authority's
// certificate behind a leaf that it did not sign is refused.
func TestJoinerSeesThroughAnImpostor(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "ours")
	config := newCredentials(t, theirs, "n", noon).TLS(func() time.Time { return noon })
	config.Certificates[0].Certificate[1] = ours.Certificate()
	config.NextProtos = []string{"covey-join"}
	err := handshake(t, config, JoinClientConfig(ours.Hash(), "ours", "covey-join"))
	if !errors.Is(err, ErrWrongCA) {
		t.Fatalf("error is %v, want ErrWrongCA", err)
	}
}

func TestIdentifyNamesNodesOfThisClusterOnly(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	c := newCredentials(t, ours, "n1", noon)
	if id, err := c.Identify(newIdentity(t, ours, "n2", noon).leaf); err != nil || id != "n2" {
		t.Errorf("our node is %q, %v; want n2", id, err)
	}
	if _, err := c.Identify(newIdentity(t, theirs, "n2", noon).leaf); !errors.Is(err, ErrNotOurs) {
		t.Errorf("foreign node: %v, want ErrNotOurs", err)
	}
	if _, err := c.Identify(ours.cert); !errors.Is(err, ErrNotOurs) {
		t.Errorf("authority itself: %v, want ErrNotOurs", err)
	}
}
