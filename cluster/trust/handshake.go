package trust

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/covey-dev/covey/cluster/state"
)

// TLS returns the base of every configuration on the peer port: this node's
// certificate and the authority to check others against, by the given clock. It
// is built anew for each handshake, so a renewed certificate counts at once.
//
// The authority's certificate is sent along: a machine that holds only a join
// token compares its hash.
func (c *Credentials) TLS(now func() time.Time) *tls.Config {
	c.mu.RLock()
	identity, authority := c.identity, c.authority
	c.mu.RUnlock()
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		Time:       now,
		RootCAs:    authority.pool,
		Certificates: []tls.Certificate{{
			Certificate: [][]byte{identity.leaf.Raw, authority.cert.Raw},
			PrivateKey:  identity.key,
			Leaf:        identity.leaf,
		}},
	}
}

// Identify returns the node that a certificate names, whose chain was verified
// before. It refuses certificates that name no node of this cluster.
func (c *Credentials) Identify(leaf *x509.Certificate) (state.NodeID, error) {
	cluster, node, err := identity(leaf)
	if err != nil {
		return "", err
	}
	if cluster != c.Authority().Cluster() {
		return "", ErrNotOurs
	}
	return node, nil
}

// JoinClientConfig returns the configuration for a machine that has only a join
// token, or whose own certificate has expired: the other end must present the
// authority's certificate with the given hash and be a node of the cluster by
// it. The handshake fails before anything secret is sent.
//
// The certificates' dates are not checked: a joining machine's clock may be
// wrong, and members that were all off for a month still renew from each other.
func JoinClientConfig(caHash string, cluster state.ClusterID, proto string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{proto},
		InsecureSkipVerify: true, // VerifyConnection pins the authority instead.
		VerifyConnection: func(s tls.ConnectionState) error {
			authority, err := pinnedAuthority(s.PeerCertificates, caHash)
			if err != nil {
				return err
			}
			if authority.Cluster() != cluster {
				return ErrWrongCA
			}
			_, err = authority.Verify(s.PeerCertificates[0], time.Time{})
			return err
		},
	}
}

// pinnedAuthority finds the authority with the given hash behind the leaf.
func pinnedAuthority(chain []*x509.Certificate, caHash string) (*Authority, error) {
	for _, cert := range chain[min(1, len(chain)):] {
		if hash(cert.Raw) == caHash {
			return ParseAuthority(cert.Raw, nil)
		}
	}
	return nil, ErrWrongCA
}
