package lambda

import (
	"context"
	"io"
	"runtime"
	"slices"
	"time"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// call is one invocation on its way through the program.
type call struct {
	covey.Invocation
	ctx     context.Context
	payload []byte
	w       io.Writer // takes a streamed answer; used by one goroutine at a time
	done    chan result

	taken     time.Time // when the program got it
	answering bool      // guarded by the host's mutex; its answer is being read
}

// result is how a call ended. A streamed answer has no body left.
type result struct {
	body []byte
	err  error
}

func newCall(ctx context.Context, payload []byte, w io.Writer) *call {
	// Room for one, because the caller is sometimes not waiting yet.
	return &call{Invocation: covey.FromContext(ctx), ctx: ctx, payload: payload, w: w, done: make(chan result, 1)}
}

// submit gives the call to the program, or keeps it until the program asks.
func (h *host) submit(c *call) {
	h.mu.Lock()
	h.queue = append(h.queue, c)
	h.mu.Unlock()
	h.dispatch()
}

// dispatch hands out calls while there are both calls and polls. A connection that broke gets nothing, and its
// call goes to the next: the program cannot have seen it.
func (h *host) dispatch() {
	for {
		c, p := h.match()
		if c == nil {
			return
		}
		c.taken = time.Now()
		h.journal.start(c)
		err := p.conn.event(c, &h.identity)
		close(p.over)
		if err != nil {
			h.mu.Lock()
			delete(h.running, c.RequestID)
			h.queue = slices.Insert(h.queue, 0, c)
			h.mu.Unlock()
		}
	}
}

// match takes a call and a poll, if there are both. Calls that nobody waits for any more are dropped. Two attempts
// at one call have the same id and do not run at once, because the program's answer would not tell which is meant.
func (h *host) match() (*call, *poll) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queue = slices.DeleteFunc(h.queue, func(c *call) bool {
		err := c.ctx.Err()
		if err != nil {
			c.done <- result{err: err}
		}
		return err != nil
	})
	if len(h.polls) == 0 {
		return nil, nil
	}
	i := slices.IndexFunc(h.queue, func(c *call) bool { return h.running[c.RequestID] == nil })
	if i < 0 {
		return nil, nil
	}
	c, p := h.queue[i], h.polls[0]
	h.queue = slices.Delete(h.queue, i, i+1)
	h.polls = slices.Delete(h.polls, 0, 1)
	h.running[c.RequestID] = c
	h.life.served++
	return c, p
}

// poll is a request for the next event that waits on a connection.
type poll struct {
	conn *conn
	over chan struct{} // closed once it is answered or given up
}

// poll registers a request for the next event.
func (h *host) poll(c *conn) (*poll, *apiError) {
	p := &poll{conn: c, over: make(chan struct{})}
	h.mu.Lock()
	if h.life == nil {
		h.mu.Unlock()
		return nil, &apiError{403, "InvalidStateTransition", "there is no function yet"}
	}
	switch most := int(h.setup.Concurrency); {
	case len(h.running) >= most:
		h.mu.Unlock()
		return nil, &apiError{403, "InvalidStateTransition", "the running invocation has no answer yet"}
	case len(h.polls)+len(h.running) >= most:
		// Only a connection that is gone, and whose end was not noticed yet, can wait beside all the others.
		h.polls[0].conn.abandon()
		close(h.polls[0].over)
		h.polls = slices.Delete(h.polls, 0, 1)
	}
	h.polls = append(h.polls, p)
	if !h.life.polled {
		h.life.polled = true
		close(h.life.ready)
	}
	h.mu.Unlock()
	h.dispatch()
	return p, nil
}

// giveUp forgets a poll whose connection is gone.
func (h *host) giveUp(p *poll) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.polls = slices.DeleteFunc(h.polls, func(x *poll) bool { return x == p })
}

// answering claims the call that the program begins to answer.
func (h *host) answering(id string) (*call, *apiError) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.running[id]
	switch {
	case c == nil && id != "" && id == h.last, c != nil && c.answering:
		return nil, &apiError{403, "InvalidStateTransition", "the invocation has an answer already"}
	case c == nil:
		return nil, &apiError{400, "InvalidRequestID", "no invocation of this request id is running"}
	}
	c.answering = true
	return c, nil
}

// answered ends a call.
func (h *host) answered(c *call, r result) {
	h.mu.Lock()
	delete(h.running, c.RequestID)
	h.last = c.RequestID
	h.mu.Unlock()
	c.done <- r
	// The caller comes before the program, which is told next that its answer has arrived.
	runtime.Gosched()
}

// report closes the account of a call: its log lines, and what the program used for it.
func (h *host) report(c *call) {
	if c.taken.IsZero() {
		return // It was dropped before the program saw it.
	}
	took := time.Since(c.taken)
	h.child.output.pump()
	cpu, peak := h.child.usage()
	covey.AddUsage(c.ctx, cpu, peak)
	h.journal.end(c, took, h.identity.takeInit(), h.setup.Memory, peak)
}
