package access

// Kept returns how many keys the keyring remembers.
func (r *Keyring) Kept() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.kept)
}

// MaxKept is the most that it remembers.
const MaxKept = maxKept
