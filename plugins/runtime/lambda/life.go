package lambda

import (
	"fmt"
	"os"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// life is one run of the program, from its start to its exit.
type life struct {
	ready  chan struct{} // closed by its first poll
	failed chan error    // gets why it never polled; has room for one
	polled bool          // guarded by the host's mutex
	served int           // guarded by the host's mutex; calls that it took
}

// start starts the program and waits until it is ready.
func (h *host) start() error {
	h.journal.remember()
	l := &life{ready: make(chan struct{}), failed: make(chan error, 1)}
	h.mu.Lock()
	h.life = l
	h.mu.Unlock()
	if err := h.child.start(func(e exit) { h.exited(l, e) }); err != nil {
		return err
	}
	select {
	case <-l.ready:
		h.identity.ready()
		h.journal.forget()
		return nil
	case err := <-l.failed:
		return err
	}
}

// initFailed takes the program's own report that it cannot initialise.
func (h *host) initFailed(err error) *apiError {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life == nil || h.life.polled {
		return &apiError{403, "InvalidStateTransition", "initialisation is over"}
	}
	select {
	case h.life.failed <- err:
	default: // The first report counts.
	}
	return nil
}

// exited handles the end of the program.
func (h *host) exited(l *life, e exit) {
	// What it said last may still be on its way through a connection.
	h.api.settle()
	h.mu.Lock()
	for _, p := range h.polls {
		close(p.over)
	}
	h.polls = nil
	polled, again := l.polled, l.served > 0 && len(h.running) == 0
	h.mu.Unlock()
	switch {
	case !polled:
		select {
		case l.failed <- e.beforeReady(h.journal.tail()):
		default:
		}
	case again:
		// It left of its own accord after an answer, as Go programs do after a panic. A program that fails
		// to come up again ends the instance.
		go h.restart(e)
	default:
		os.Exit(e.status)
	}
}

func (h *host) restart(e exit) {
	h.journal.note("the function's program " + e.String() + " between calls and is started again")
	err := h.start()
	if err == nil {
		return
	}
	h.journal.note("start the function's program again: " + err.Error())
	os.Exit(max(e.status, 1))
}

// beforeReady is the error of a program that ended while it started. What it printed says why.
func (e exit) beforeReady(printed string) *covey.Error {
	message := fmt.Sprintf("the function's program %s before it asked for its first event", e)
	if printed != "" {
		message += "; it said:\n" + printed
	}
	return &covey.Error{Type: "Runtime.ExitError", Message: message}
}
