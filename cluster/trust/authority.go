package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/covey-dev/covey/cluster/state"
)

const (
	// CertificateLifetime is how long a node's certificate is valid.
	CertificateLifetime = 30 * 24 * time.Hour

	// authorityLifetime outlives any machine: replacing the authority means a
	// new cluster.
	authorityLifetime = 20 * 365 * 24 * time.Hour

	// backdate makes a new certificate valid on a node whose clock runs behind.
	backdate = time.Hour
)

// Authority is a cluster's certificate authority. It is immutable and safe for
// concurrent use. Without its key it only verifies.
type Authority struct {
	cluster state.ClusterID
	cert    *x509.Certificate
	pool    *x509.CertPool    // Holds cert alone.
	key     *ecdsa.PrivateKey // Nil on nodes that may not sign.
}

// NewAuthority makes the authority of a new cluster.
func NewAuthority(cluster state.ClusterID, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate authority key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "covey cluster", SerialNumber: string(cluster)},
		URIs:         []*url.URL{{Scheme: uriScheme, Host: string(cluster)}},
		// Long ago, so that no node's clock, however wrong, is before it.
		NotBefore:             now.Add(-authorityLifetime),
		NotAfter:              now.Add(authorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("create authority certificate: %w", err)
	}
	return ParseAuthority(der, key)
}

// ParseAuthority reads an authority's certificate. A nil key gives one that
// only verifies; a key that does not belong to the certificate is an error.
func ParseAuthority(der []byte, key *ecdsa.PrivateKey) (*Authority, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse authority certificate: %w", err)
	}
	if !cert.IsCA || len(cert.URIs) != 1 || cert.URIs[0].Scheme != uriScheme || cert.URIs[0].Host == "" {
		return nil, fmt.Errorf("parse authority certificate: %w", ErrWrongCA)
	}
	if key != nil && !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("parse authority key: %w", ErrWrongCA)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &Authority{cluster: state.ClusterID(cert.URIs[0].Host), cert: cert, pool: pool, key: key}, nil
}

// Cluster returns the cluster that the authority vouches for.
func (a *Authority) Cluster() state.ClusterID { return a.cluster }

// Certificate returns the authority's certificate in DER. Callers don't change it.
func (a *Authority) Certificate() []byte { return a.cert.Raw }

// Hash returns the SHA-256 of the certificate in hex, as join tokens carry it.
func (a *Authority) Hash() string { return hash(a.cert.Raw) }

// CanSign reports whether the authority's key is here.
func (a *Authority) CanSign() bool { return a.key != nil }

// WithoutKey returns the same authority, only able to verify.
func (a *Authority) WithoutKey() *Authority {
	return &Authority{cluster: a.cluster, cert: a.cert, pool: a.pool}
}

// Sign issues a certificate for node to the key of a signing request. Of the
// request only the key counts: names that it may carry are ignored, so a node
// cannot ask for another identity. It returns ErrNoAuthority without the key.
func (a *Authority) Sign(request []byte, node state.NodeID, now time.Time) ([]byte, error) {
	if a.key == nil {
		return nil, ErrNoAuthority
	}
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	public, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: key is not ECDSA P-256", ErrBadRequest)
	}
	if node == "" {
		return nil, fmt.Errorf("%w: no node id", ErrBadRequest)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: string(node)},
		URIs:         []*url.URL{nodeURI(a.cluster, node)},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(CertificateLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return der, nil
}

// Verify checks that leaf was issued by this authority and is valid at now, and
// returns the node it names. A zero now ignores the validity period: a node that
// was off past its certificate's end still proves who it is when it renews.
func (a *Authority) Verify(leaf *x509.Certificate, now time.Time) (state.NodeID, error) {
	if now.IsZero() {
		now = leaf.NotBefore.Add(time.Second)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:       a.pool,
		CurrentTime: now,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return "", fmt.Errorf("verify certificate: %w", ErrWrongCA)
	}
	if err != nil {
		return "", fmt.Errorf("verify certificate: %w", err)
	}
	cluster, node, err := identity(leaf)
	if err != nil {
		return "", err
	}
	if cluster != a.cluster {
		return "", fmt.Errorf("verify certificate: %w", ErrNotOurs)
	}
	return node, nil
}

// newSerial returns a random 120-bit serial number.
func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("generate serial number: %w", err)
	}
	return serial, nil
}

// hash returns the hex SHA-256 of a DER certificate.
func hash(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
