package trust

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// The files of a node's keys directory, all 0600.
const (
	authorityCertFile = "ca.crt"
	authorityKeyFile  = "ca.key"
	nodeCertFile      = "node.crt"
	nodeKeyFile       = "node.key"
	gossipKeyFile     = "gossip.key"
	kekFile           = "kek"
)

// SymmetricKeySize is the size of the gossip key and of the key-encryption
// key: AES-256.
const SymmetricKeySize = 32

// Custody is what only voters hold. Its zero value is "nothing held".
type Custody struct {
	AuthorityKey *ecdsa.PrivateKey
	KEK          []byte // Key-encryption key for secrets in the replicated state.
}

// Credentials are everything secret that a node has, in memory and in a
// directory. They are safe for concurrent use.
type Credentials struct {
	dir       string
	gossipKey []byte

	mu        sync.RWMutex
	authority *Authority
	identity  *Identity
	kek       []byte // Nil unless this node has custody.
}

// NewSymmetricKey returns a random AES-256 key.
func NewSymmetricKey() []byte {
	key := make([]byte, SymmetricKeySize)
	_, _ = rand.Read(key) // Never fails, see NewSecret.
	return key
}

// CreateCredentials writes a new node's credentials to dir, which it makes.
// The authority's key is stored if the authority has it.
func CreateCredentials(dir string, authority *Authority, identity *Identity, gossipKey, kek []byte) (*Credentials, error) {
	if len(gossipKey) != SymmetricKeySize {
		return nil, fmt.Errorf("create credentials: gossip key has %d bytes, want %d", len(gossipKey), SymmetricKeySize)
	}
	if _, err := authority.Verify(identity.leaf, identity.leaf.NotBefore); err != nil {
		return nil, fmt.Errorf("create credentials: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create credentials: %w", err)
	}
	c := &Credentials{dir: dir, gossipKey: gossipKey, authority: authority.WithoutKey()}
	if err := WriteFile(filepath.Join(dir, authorityCertFile), encodeCert(authority.Certificate())); err != nil {
		return nil, err
	}
	if err := WriteFile(filepath.Join(dir, gossipKeyFile), encodePEM("COVEY GOSSIP KEY", gossipKey)); err != nil {
		return nil, err
	}
	if err := c.SetIdentity(identity); err != nil {
		return nil, err
	}
	if authority.CanSign() {
		if err := c.TakeCustody(Custody{AuthorityKey: authority.key, KEK: kek}); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// OpenCredentials reads what CreateCredentials and later changes wrote.
func OpenCredentials(dir string) (*Credentials, error) {
	caDER, err := readPEM(filepath.Join(dir, authorityCertFile))
	if err != nil {
		return nil, err
	}
	authority, err := ParseAuthority(caDER, nil)
	if err != nil {
		return nil, err
	}
	gossipKey, err := readPEM(filepath.Join(dir, gossipKeyFile))
	if err != nil {
		return nil, err
	}
	identity, err := openIdentity(dir)
	if err != nil {
		return nil, err
	}
	c := &Credentials{dir: dir, gossipKey: gossipKey, authority: authority, identity: identity}
	return c, c.openCustody()
}

// openIdentity reads the node's key and certificate. Renewal writes one file
// that holds both, so they always belong together.
func openIdentity(dir string) (*Identity, error) {
	keyDER, err := readPEM(filepath.Join(dir, nodeKeyFile))
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(keyDER)
	if err != nil {
		return nil, fmt.Errorf("parse node key: %w", err)
	}
	certDER, err := readPEMBlock(filepath.Join(dir, nodeKeyFile), "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	return NewIdentity(key, certDER)
}

// openCustody reads the voters' keys, if this node has them.
func (c *Credentials) openCustody() error {
	keyDER, err := readPEM(filepath.Join(c.dir, authorityKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	key, err := x509.ParseECPrivateKey(keyDER)
	if err != nil {
		return fmt.Errorf("parse authority key: %w", err)
	}
	kek, err := readPEM(filepath.Join(c.dir, kekFile))
	if err != nil {
		return err
	}
	authority, err := ParseAuthority(c.authority.Certificate(), key)
	if err != nil {
		return err
	}
	c.authority, c.kek = authority, kek
	return nil
}

// Authority returns the cluster's authority, with its key where this node has
// custody.
func (c *Credentials) Authority() *Authority {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.authority
}

// Identity returns the node's current key and certificate.
func (c *Credentials) Identity() *Identity {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.identity
}

// GossipKey returns the key that gossip is encrypted with.
func (c *Credentials) GossipKey() []byte { return c.gossipKey }

// KEK returns the key-encryption key, or nil where this node has no custody.
func (c *Credentials) KEK() []byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.kek
}

// SetIdentity stores a new key and certificate and uses them from the next
// handshake on.
func (c *Credentials) SetIdentity(identity *Identity) error {
	keyDER, err := x509.MarshalECPrivateKey(identity.key)
	if err != nil {
		return fmt.Errorf("marshal node key: %w", err)
	}
	// One file, so that a crash cannot leave a key with another's certificate.
	both := append(encodePEM("EC PRIVATE KEY", keyDER), encodeCert(identity.Certificate())...)
	if err := WriteFile(filepath.Join(c.dir, nodeKeyFile), both); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.identity = identity
	// The copy without the key is for people and tools; nothing reads it back.
	return WriteFile(filepath.Join(c.dir, nodeCertFile), encodeCert(identity.Certificate()))
}

// Custody returns the voters' keys; ok is false where this node has none.
func (c *Credentials) Custody() (custody Custody, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return Custody{AuthorityKey: c.authority.key, KEK: c.kek}, c.authority.key != nil
}

// TakeCustody stores the voters' keys. A key that does not belong to the
// cluster's authority is refused with ErrWrongCA.
func (c *Credentials) TakeCustody(custody Custody) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if custody.AuthorityKey == nil || len(custody.KEK) != SymmetricKeySize {
		return fmt.Errorf("take custody: %w: incomplete keys", ErrBadRequest)
	}
	authority, err := ParseAuthority(c.authority.Certificate(), custody.AuthorityKey)
	if err != nil {
		return fmt.Errorf("take custody: %w", err)
	}
	keyDER, err := x509.MarshalECPrivateKey(custody.AuthorityKey)
	if err != nil {
		return fmt.Errorf("take custody: %w", err)
	}
	// The authority's key last: its file alone says that custody is complete.
	if err := WriteFile(filepath.Join(c.dir, kekFile), encodePEM("COVEY KEY ENCRYPTION KEY", custody.KEK)); err != nil {
		return err
	}
	if err := WriteFile(filepath.Join(c.dir, authorityKeyFile), encodePEM("EC PRIVATE KEY", keyDER)); err != nil {
		return err
	}
	c.authority, c.kek = authority, custody.KEK
	return nil
}

// DropCustody wipes the voters' keys from memory and disk. It is idempotent.
func (c *Credentials) DropCustody() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.authority, c.kek = c.authority.WithoutKey(), nil
	return errors.Join(
		wipeFile(filepath.Join(c.dir, authorityKeyFile)),
		wipeFile(filepath.Join(c.dir, kekFile)),
	)
}

// MarshalCustody returns the authority's key as bytes that ParseCustody reads,
// for the hand-over inside a mutually authenticated connection.
func MarshalCustody(custody Custody) (authorityKey, kek []byte, err error) {
	der, err := x509.MarshalECPrivateKey(custody.AuthorityKey)
	if err != nil {
		return nil, nil, fmt.Errorf("marshal authority key: %w", err)
	}
	return der, custody.KEK, nil
}

// ParseCustody reads what MarshalCustody wrote.
func ParseCustody(authorityKey, kek []byte) (Custody, error) {
	key, err := x509.ParseECPrivateKey(authorityKey)
	if err != nil {
		return Custody{}, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return Custody{AuthorityKey: key, KEK: kek}, nil
}

// encodeCert returns a certificate in PEM.
func encodeCert(der []byte) []byte { return encodePEM("CERTIFICATE", der) }

// encodePEM returns one PEM block.
func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// readPEM returns the first block of a file.
func readPEM(path string) ([]byte, error) { return readPEMBlock(path, "") }

// readPEMBlock returns the first block of a kind; an empty kind takes any.
func readPEMBlock(path, kind string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if kind == "" || block.Type == kind {
			return block.Bytes, nil
		}
	}
	return nil, fmt.Errorf("read key file %s: no PEM block", path)
}
