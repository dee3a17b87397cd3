package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// digestPrefix names the hash in a digest's text form.
const digestPrefix = "sha256:"

// Digest is the SHA-256 of a blob's bytes and thereby its name. It is valid by
// construction, so it may become part of a path.
type Digest [sha256.Size]byte

// Sum returns the digest of data.
func Sum(data []byte) Digest { return sha256.Sum256(data) }

// ParseDigest reads the text form, "sha256:" and 64 lower-case hex digits. The
// error wraps ErrBadDigest.
func ParseDigest(text string) (Digest, error) {
	hexed, ok := strings.CutPrefix(text, digestPrefix)
	if !ok {
		return Digest{}, fmt.Errorf("%w: %q lacks %q", ErrBadDigest, clip(text), digestPrefix)
	}
	d, ok := parseHex(hexed)
	if !ok {
		return Digest{}, fmt.Errorf("%w: %q", ErrBadDigest, clip(text))
	}
	return d, nil
}

// String returns the text form that ParseDigest reads.
func (d Digest) String() string { return digestPrefix + d.hex() }

// MarshalText returns the text form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the text form.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err == nil {
		*d = parsed
	}
	return err
}

func (d Digest) hex() string { return hex.EncodeToString(d[:]) }

// parseHex reads exactly 64 lower-case digits, so that a digest has one file
// name only.
func parseHex(text string) (d Digest, ok bool) {
	if len(text) != 2*len(d) || strings.ToLower(text) != text {
		return d, false
	}
	_, err := hex.Decode(d[:], []byte(text))
	return d, err == nil
}

// clip keeps hostile input out of error texts and logs.
func clip(text string) string { return text[:min(len(text), 80)] }

// Rank returns nodes in the order in which they own d, by rendezvous hashing:
// every node computes the same order from the same set, and a node that comes
// or goes moves only the digests it owns. It is the usual Config.Owners.
func Rank(d Digest, nodes []string) []string {
	type scored struct {
		score uint64
		node  string
	}
	ranked := make([]scored, len(nodes))
	var h xxhash.Digest
	for i, node := range nodes {
		h.Reset()
		_, _ = h.Write(d[:]) // documented never to fail
		_, _ = h.WriteString(node)
		ranked[i] = scored{h.Sum64(), node}
	}
	slices.SortFunc(ranked, func(a, b scored) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return strings.Compare(a.node, b.node)
	})
	order := make([]string, len(ranked))
	for i, r := range ranked {
		order[i] = r.node
	}
	return order
}
