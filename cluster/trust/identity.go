package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/covey-dev/covey/cluster/state"
)

// uriScheme begins the URI that names a node: covey://CLUSTER/node/ID.
const uriScheme = "covey"

// Identity is a node's private key with the certificate issued for it. It is
// immutable and safe for concurrent use.
type Identity struct {
	key  *ecdsa.PrivateKey
	leaf *x509.Certificate
	node state.NodeID
}

// NewKey makes a private key for a node.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate node key: %w", err)
	}
	return key, nil
}

// NewRequest returns a signing request for key in DER.
func NewRequest(key *ecdsa.PrivateKey, node state.NodeID) ([]byte, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: string(node)}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("create certificate request: %w", err)
	}
	return der, nil
}

// NewIdentity pairs a key with its certificate in DER. It refuses a
// certificate for another key or without a node's name.
func NewIdentity(key *ecdsa.PrivateKey, der []byte) (*Identity, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse node certificate: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, fmt.Errorf("parse node certificate: %w: it is for another key", ErrNotOurs)
	}
	_, node, err := identity(leaf)
	if err != nil {
		return nil, err
	}
	return &Identity{key: key, leaf: leaf, node: node}, nil
}

// Node returns the node that the certificate names.
func (i *Identity) Node() state.NodeID { return i.node }

// Certificate returns the certificate in DER. Callers don't change it.
func (i *Identity) Certificate() []byte { return i.leaf.Raw }

// Expires returns when the certificate ends.
func (i *Identity) Expires() time.Time { return i.leaf.NotAfter }

// RenewAt returns when a new certificate should be asked for: after two thirds
// of the lifetime, which leaves ten days in which nobody needs to answer.
func (i *Identity) RenewAt() time.Time {
	life := i.leaf.NotAfter.Sub(i.leaf.NotBefore)
	return i.leaf.NotBefore.Add(life * 2 / 3)
}

// SignRenewal proves, with the old key, that a request for a new one comes
// from the node itself. It needs no valid certificate, so a node that was off
// for longer than its certificate lived comes back by itself.
func (i *Identity) SignRenewal(request []byte) ([]byte, error) {
	sum := renewalDigest(request)
	signature, err := i.key.Sign(rand.Reader, sum, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign renewal: %w", err)
	}
	return signature, nil
}

// VerifyRenewal returns the node that asks for a renewal. The certificate may
// have expired; whether the node still belongs to the cluster is the caller's
// question to the replicated state.
func (a *Authority) VerifyRenewal(request, certificate, signature []byte) (state.NodeID, error) {
	leaf, err := x509.ParseCertificate(certificate)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	node, err := a.Verify(leaf, time.Time{})
	if err != nil {
		return "", err
	}
	public, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(public, renewalDigest(request), signature) {
		return "", fmt.Errorf("%w: renewal is not signed by the old key", ErrBadRequest)
	}
	return node, nil
}

// renewalDigest separates renewals from anything else that the key signs.
func renewalDigest(request []byte) []byte {
	h := sha256.New()
	h.Write([]byte("covey certificate renewal\x00"))
	h.Write(request)
	return h.Sum(nil)
}

// nodeURI returns the name of a node as its certificate carries it.
func nodeURI(cluster state.ClusterID, node state.NodeID) *url.URL {
	return &url.URL{Scheme: uriScheme, Host: string(cluster), Path: "/node/" + string(node)}
}

// identity reads cluster and node from a certificate.
func identity(leaf *x509.Certificate) (state.ClusterID, state.NodeID, error) {
	if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != uriScheme {
		return "", "", ErrNotOurs
	}
	uri := leaf.URIs[0]
	node, ok := strings.CutPrefix(uri.Path, "/node/")
	if !ok || node == "" || uri.Host == "" || strings.Contains(node, "/") {
		return "", "", ErrNotOurs
	}
	return state.ClusterID(uri.Host), state.NodeID(node), nil
}
