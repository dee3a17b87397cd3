package trust

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/google/uuid"

	"github.com/covey-dev/covey/cluster/state"
)

// BirthID returns the id of the node that is born with a key: a UUID made of the
// key's hash. It is as random as the key, and it cannot be claimed without it: a
// machine that holds a join token could otherwise ask for the certificate of an
// existing member. The key may be replaced later, the id stays.
func BirthID(key *ecdsa.PublicKey) (state.NodeID, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("derive node id: %w", err)
	}
	sum := sha256.Sum256(append([]byte("covey node id\x00"), der...))
	var id uuid.UUID
	copy(id[:], sum[:])
	id[6] = id[6]&0x0f | 0x80 // Version 8: made by a rule of our own.
	id[8] = id[8]&0x3f | 0x80 // Variant of RFC 9562.
	return state.NodeID(id.String()), nil
}

// CheckBirth checks that a signing request may be answered with a certificate
// for a new node of that id. A request that may not is ErrBadRequest.
func CheckBirth(request []byte, node state.NodeID) error {
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if err := csr.CheckSignature(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	public, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("%w: key is not ECDSA", ErrBadRequest)
	}
	want, err := BirthID(public)
	if err != nil {
		return err
	}
	if want != node {
		return fmt.Errorf("%w: node id %s does not belong to the key", ErrBadRequest, node)
	}
	return nil
}
