package invoke

import "github.com/cespare/xxhash/v2"

// keyOf hashes the key that a call came with, never to 0. All nodes agree on it, now
// and in later releases. The function is part of it, so that two functions do not try
// their new versions out on the same callers; the alias is not, so that a caller stays
// where he is when "live" takes over what "canary" had.
func keyOf(app, function, key string) uint64 {
	var d xxhash.Digest
	d.Reset()
	for _, part := range [...]string{app, "/", function, "\x00", key} {
		_, _ = d.WriteString(part) // never fails
	}
	return max(d.Sum64(), 1)
}

// pickOf turns the hash of a key into a number in [0, 1), which chooses within a
// weighted pair. A weight that grows takes more keys over and gives none back.
func pickOf(hash uint64) float64 { return float64(hash>>11) / (1 << 53) }
