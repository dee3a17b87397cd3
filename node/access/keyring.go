package access

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/access/sigv4"
)

const (
	// maxKept bounds the keyring: about 200 KiB.
	maxKept = 1024
	// maxAsk bounds one question, however patient its caller is.
	maxAsk = 4 * time.Second
	// slack is how early a day begins for a node whose clock runs behind.
	slack = 2 * sigv4.Window
)

// Source knows the secrets of access keys and derives the key of a day, or finds
// somebody who does. It returns [ErrUnknownKey], [ErrLostKey], [ErrNoKeeper] or the
// context's error.
type Source func(ctx context.Context, key *state.Token, day string) (sigv4.Key, error)

// Keyring remembers the keys that signatures are checked with, per access key and
// day. Secrets never get here. It is safe for concurrent use.
type Keyring struct {
	source Source

	mu    sync.RWMutex
	kept  map[slot]kept    // guarded by mu; at most maxKept
	under map[slot]*asking // guarded by mu; the questions that are under way
}

type slot struct {
	id  state.TokenID
	day string
}

// kept is the key of a day. It is of use for the access key with just this secret.
type kept struct {
	key    sigv4.Key
	sealed []byte
}

// asking is a question that others wait for too.
type asking struct {
	done chan struct{} // closed once key and err are set
	key  sigv4.Key
	err  error
}

// NewKeyring returns an empty keyring over a source.
func NewKeyring(source Source) *Keyring {
	return &Keyring{source: source, kept: map[slot]kept{}, under: map[slot]*asking{}}
}

// UsefulDay reports whether signatures of a day can be valid at now: from the
// oldest that a presigned URL may have to the one that begins now. Nobody is given
// the key of another day.
func UsefulDay(day string, now time.Time) bool {
	begin, ok := sigv4.ParseDay(day)
	return ok && begin.Before(now.Add(slack)) && begin.After(now.Add(-sigv4.MaxExpires-24*time.Hour-slack))
}

// DayKey returns the key of an access key for a day. It asks the source when it
// does not know, once for all who wait, and then its errors are the source's.
func (r *Keyring) DayKey(ctx context.Context, key *state.Token, day string) (sigv4.Key, error) {
	at := slot{key.ID, day}
	r.mu.RLock()
	k, ok := r.kept[at]
	r.mu.RUnlock()
	if ok && bytes.Equal(k.sealed, key.Sealed) {
		return k.key, nil
	}
	r.mu.Lock()
	if other := r.under[at]; other != nil {
		r.mu.Unlock()
		select {
		case <-other.done:
			return other.key, other.err
		case <-ctx.Done():
			return sigv4.Key{}, ctx.Err()
		}
	}
	mine := &asking{done: make(chan struct{})}
	r.under[at] = mine
	r.mu.Unlock()
	r.ask(ctx, at, key, mine)
	return mine.key, mine.err
}

// ask puts the question on the goroutine of the first who needs the answer, and
// goes on if that one leaves: the others wait for it.
func (r *Keyring) ask(ctx context.Context, at slot, key *state.Token, q *asking) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxAsk)
	defer cancel()
	q.key, q.err = r.source(ctx, key, at.day)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.under, at)
	if q.err == nil {
		for other := range r.kept { // any will do: it is asked for again
			if len(r.kept) < maxKept {
				break
			}
			delete(r.kept, other)
		}
		r.kept[at] = kept{key: q.key, sealed: key.Sealed}
	}
	close(q.done)
}

// Sweep forgets the keys of access keys that were revoked or have expired, and of
// days that are over. Requests are refused without it; it is for the memory.
func (r *Keyring) Sweep(keys Keys, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for at, k := range r.kept {
		key, err := FindKey(keys, string(at.id), now)
		if err != nil || !bytes.Equal(key.Sealed, k.sealed) || !UsefulDay(at.day, now) {
			delete(r.kept, at)
		}
	}
}
