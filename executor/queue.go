package executor

import (
	"sync"
	"time"
)

// grant is what a waiting call gets: a slot, or the reason why it gets none.
type grant struct {
	slot *slot
	err  error
	// waited is the whole wait for the slot.
	waited time.Duration
	// cold tells that the slot's instance became ready while the call waited,
	// and first that it is the instance's first call.
	cold, first bool
}

// waiter is a call in a queue. Its channel has room for the one grant that it
// gets, so that granting never blocks.
type waiter struct {
	ch         chan grant
	since      time.Time
	prev, next *waiter
	queued     bool
	// patient calls stay when there is no memory for an instance; others are told at
	// once, so that they can go to another node.
	patient bool
}

// waitQueue holds calls in the order of their arrival. Taking one out of the
// middle is cheap, since callers leave at any time. The pool's lock guards it.
type waitQueue struct {
	head, tail *waiter
	n          int
	patient    int // of them
}

// push adds a call that came last.
func (q *waitQueue) push(w *waiter) {
	w.prev, w.next, w.queued = q.tail, nil, true
	if q.tail == nil {
		q.head = w
	} else {
		q.tail.next = w
	}
	q.tail = w
	q.n++
	if w.patient {
		q.patient++
	}
}

// pop takes the oldest waiter, or returns nil.
func (q *waitQueue) pop() *waiter {
	w := q.head
	if w != nil {
		q.remove(w)
	}
	return w
}

// popNewest takes the waiter that came last, or returns nil.
func (q *waitQueue) popNewest() *waiter {
	w := q.tail
	if w != nil {
		q.remove(w)
	}
	return w
}

// remove takes w out. It reports false when w was not in the queue any more, and
// a grant is in its channel instead.
func (q *waitQueue) remove(w *waiter) bool {
	if !w.queued {
		return false
	}
	if w.prev == nil {
		q.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	q.n--
	if w.patient {
		q.patient--
	}
	return true
}

// keepAll makes all waiters patient.
func (q *waitQueue) keepAll() {
	if q.patient == q.n {
		return
	}
	for w := q.head; w != nil; w = w.next {
		w.patient = true
	}
	q.patient = q.n
}

// waiters recycles waiters. One is given back only by its caller, which has
// emptied the channel or left the queue before.
type waiters struct{ pool sync.Pool }

// get returns a waiter with an empty channel.
func (ws *waiters) get(now time.Time) *waiter {
	w, ok := ws.pool.Get().(*waiter)
	if !ok {
		w = &waiter{ch: make(chan grant, 1)}
	}
	w.since = now
	return w
}

// put takes a waiter back.
func (ws *waiters) put(w *waiter) { ws.pool.Put(w) }
