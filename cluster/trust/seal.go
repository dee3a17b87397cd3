package trust

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// A sealed secret is
//
//	version (1 byte) | key's fingerprint (8) | nonce (12) | ciphertext | tag (16)
//
// Version 1 is AES-256-GCM under the key-encryption key itself. Everything before
// the ciphertext and the name that the secret is sealed under are authenticated
// with it. Another algorithm, or another way to find the key, is another version.
const (
	sealVersion     = 1
	fingerprintSize = 8
	nonceSize       = 12
	sealHeader      = 1 + fingerprintSize
)

// Seal encrypts a secret with a key-encryption key for the replicated state. Only
// Unseal with the same key and name opens it, so that one secret cannot be put in
// another's place. A name says what kind of secret it is too.
//
// The nonce is random, which is safe for 2^32 secrets under one key.
func Seal(kek []byte, name string, secret []byte) ([]byte, error) {
	aead, err := newAEAD(kek)
	if err != nil {
		return nil, fmt.Errorf("seal secret: %w", err)
	}
	sealed := make([]byte, sealHeader+nonceSize, sealHeader+nonceSize+len(secret)+aead.Overhead())
	sealed[0] = sealVersion
	copy(sealed[1:], fingerprint(kek))
	_, _ = rand.Read(sealed[sealHeader:]) // Never fails, see NewSecret.
	return aead.Seal(sealed, sealed[sealHeader:], secret, sealContext(sealed, name)), nil
}

// Unseal opens what Seal made. The error is ErrOtherKey or ErrSealBroken.
func Unseal(kek []byte, name string, sealed []byte) ([]byte, error) {
	aead, err := newAEAD(kek)
	if err != nil {
		return nil, fmt.Errorf("unseal secret: %w", err)
	}
	if len(sealed) < sealHeader+nonceSize+aead.Overhead() || sealed[0] != sealVersion {
		return nil, fmt.Errorf("unseal secret: %w: unknown form", ErrSealBroken)
	}
	if !bytes.Equal(sealed[1:sealHeader], fingerprint(kek)) {
		return nil, fmt.Errorf("unseal secret: %w", ErrOtherKey)
	}
	nonce, ciphertext := sealed[sealHeader:sealHeader+nonceSize], sealed[sealHeader+nonceSize:]
	secret, err := aead.Open(nil, nonce, ciphertext, sealContext(sealed, name))
	if err != nil {
		return nil, fmt.Errorf("unseal secret: %w", ErrSealBroken)
	}
	return secret, nil
}

// newAEAD returns the cipher of version 1.
func newAEAD(kek []byte) (cipher.AEAD, error) {
	if len(kek) != SymmetricKeySize {
		return nil, fmt.Errorf("key-encryption key has %d bytes, want %d", len(kek), SymmetricKeySize)
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// fingerprint names a key-encryption key without telling anything about it.
func fingerprint(kek []byte) []byte {
	mac := hmac.New(sha256.New, kek)
	mac.Write([]byte("covey key-encryption key fingerprint"))
	return mac.Sum(nil)[:fingerprintSize]
}

// sealContext is what is authenticated besides the ciphertext.
func sealContext(sealed []byte, name string) []byte {
	return append(bytes.Clone(sealed[:sealHeader]), name...)
}
