package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"hash/crc32"
	"strings"
)

// Prefix starts every API token, so that leak scanners know one when they see
// it; the last characters are a checksum, so that they can rule out the rest.
const Prefix = "covey_"

const (
	secretBytes   = 32
	checksumBytes = 4
)

// encoding has no characters that end a word when a person double-clicks.
func encoding() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// Hash is how a token is known to the cluster: the SHA-256 of its text.
type Hash [sha256.Size]byte

// HashOf returns the hash of a token's whole text. It does not allocate for a
// text that can be a token.
func HashOf(secret string) Hash {
	if len(secret) > maxSecret {
		return sha256.Sum256([]byte(secret))
	}
	var buf [maxSecret]byte
	return sha256.Sum256(buf[:copy(buf[:], secret)])
}

// NewSecret makes a token. The caller shows it once and keeps its hash.
func NewSecret() string {
	var raw [secretBytes + checksumBytes]byte
	// crypto/rand.Read does not fail: it ends the program first.
	_, _ = rand.Read(raw[:secretBytes])
	binary.BigEndian.PutUint32(raw[secretBytes:], crc32.ChecksumIEEE(raw[:secretBytes]))
	return Prefix + encoding().EncodeToString(raw[:])
}

// WellFormed reports whether text looks like a token that NewSecret made, by
// prefix, length and checksum: what a leak scanner needs. Whether it opens
// anything is only known to the cluster.
func WellFormed(text string) bool {
	body, ok := strings.CutPrefix(text, Prefix)
	if !ok {
		return false
	}
	raw, err := encoding().DecodeString(body)
	if err != nil || len(raw) != secretBytes+checksumBytes {
		return false
	}
	return binary.BigEndian.Uint32(raw[secretBytes:]) == crc32.ChecksumIEEE(raw[:secretBytes])
}
