package node

import (
	"errors"
	"testing"
	"time"

	"github.com/covey-dev/covey/scheduler/assign"
)

// handLease is a lease by a clock that the test moves.
func handLease() (*lease, *time.Duration) {
	now := new(time.Duration)
	return &lease{since: func() time.Duration { return *now }}, now
}

func TestLeaseEndsTenSecondsAfterTheQuestion(t *testing.T) {
	t.Parallel()
	l, now := handLease()
	if l.valid() {
		t.Error("a node that never heard of the leader has a lease")
	}
	*now = time.Hour
	// The answer takes its time: what the leader did meanwhile is not in it.
	if err := l.renew(func() error { *now += 4 * time.Second; return nil }); err != nil || !l.valid() {
		t.Fatalf("after an answer: %v, valid %v", err, l.valid())
	}
	*now = time.Hour + assign.ReserveLease - 1
	if !l.valid() {
		t.Error("it ended too early")
	}
	*now++
	if l.valid() {
		t.Error("it did not end")
	}
}

func TestLeaseIsNotRenewedWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	l, now := handLease()
	if err := l.renew(func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	cut := errors.New("no leader")
	for range 4 {
		*now += 3 * time.Second
		if err := l.renew(func() error { return cut }); !errors.Is(err, cut) {
			t.Errorf("got %v", err)
		}
	}
	if l.valid() {
		t.Error("a node that was cut off for 12 s has a lease")
	}
	// An answer to an old question is worth no more for being late.
	if err := l.renew(func() error { *now += assign.ReserveLease; return nil }); err != nil || l.valid() {
		t.Errorf("a late answer: %v, valid %v", err, l.valid())
	}
}
