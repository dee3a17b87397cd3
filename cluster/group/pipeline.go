package group

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// pipelines are the open pipelined replications of a transport. The library can
// wait for one for ever: when a follower answers with a newer term, the goroutine
// that takes the answers ends, the one that reads them from the connection then
// waits for it, and the sender waits for that one. Raft's Shutdown waits for the
// sender. Closing the pipeline frees all three, so it is done here: by a watchdog
// over each send, and when the transport closes.
type pipelines struct {
	patience time.Duration
	// repeat is how long nothing is said twice. After that it is, so that a dead
	// connection shows before there is something to replicate.
	repeat time.Duration

	mu     sync.Mutex
	closed bool
	open   map[*pipeline]struct{}
}

func newPipelines(patience, repeat time.Duration) *pipelines {
	return &pipelines{patience: patience, repeat: repeat, open: make(map[*pipeline]struct{})}
}

// add watches over a pipeline from now on.
func (s *pipelines) add(inner raft.AppendPipeline) (raft.AppendPipeline, error) {
	p := &pipeline{
		AppendPipeline: inner, all: s,
		answers: make(chan raft.AppendFuture), broken: make(chan struct{}), done: make(chan struct{}),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = inner.Close()
		return nil, raft.ErrTransportShutdown
	}
	s.open[p] = struct{}{}
	go p.forward() // ends with the pipeline's Close, which the library defers
	return p, nil
}

// close closes all pipelines, and those that are added later at once.
func (s *pipelines) close() {
	s.mu.Lock()
	open := s.open
	s.open, s.closed = make(map[*pipeline]struct{}), true
	s.mu.Unlock()
	for p := range open {
		_ = p.AppendPipeline.Close()
	}
}

// pipeline is a pipeline that does not wait for ever, and does not repeat itself.
// The library asks every CommitTimeout for an empty request, so that a follower
// learns soon what is committed; in an idle group nearly all of them say what the
// one before has said, and they are half of what it costs to be idle. Who lives is
// not their business: that is for the heartbeats, which take another connection.
//
// Nor does it fail while sending: the library then reads, for its log, the
// follower's address without the lock that a change of addresses holds, and a node
// that returns elsewhere does both at once. It fails by an unsuccessful answer.
type pipeline struct {
	raft.AppendPipeline
	all     *pipelines
	answers chan raft.AppendFuture
	broken  chan struct{} // closed when a request could not be sent
	done    chan struct{} // closed by Close
	once    sync.Once

	// Touched by the goroutine that replicates only. A request that was sent here
	// arrives, or the pipeline fails and another one takes over.
	said position
	sent raft.AppendFuture // the answer to it
	at   time.Time
	lost *lostRequest // the request that could not be sent
}

// lostRequest is the answer to a request that could not be sent.
type lostRequest struct {
	start time.Time
	req   *raft.AppendEntriesRequest
	err   error
}

// Error implements raft.AppendFuture.
func (l *lostRequest) Error() error { return l.err }

// Start implements raft.AppendFuture.
func (l *lostRequest) Start() time.Time { return l.start }

// Request implements raft.AppendFuture.
func (l *lostRequest) Request() *raft.AppendEntriesRequest { return l.req }

// Response implements raft.AppendFuture: it says no, upon which the library gives
// the pipeline up and asks the follower anew where it is.
func (l *lostRequest) Response() *raft.AppendEntriesResponse { return &raft.AppendEntriesResponse{} }

// position is all that an empty request tells a follower.
type position struct{ term, index, indexTerm, commit uint64 }

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.lost != nil {
		return p.lost, nil // the library is about to notice
	}
	says := position{term: req.Term, index: req.PrevLogEntry, indexTerm: req.PrevLogTerm, commit: req.LeaderCommitIndex}
	if len(req.Entries) == 0 && p.sent != nil && says == p.said && time.Since(p.at) < p.all.repeat {
		return p.sent, nil
	}
	watchdog := time.AfterFunc(p.all.patience, func() { _ = p.AppendPipeline.Close() })
	defer watchdog.Stop()
	future, err := p.AppendPipeline.AppendEntries(req, resp)
	p.said, p.sent, p.at = says, future, time.Now()
	if err != nil {
		p.lost = &lostRequest{start: p.at, req: req, err: err}
		close(p.broken)
		return p.lost, nil
	}
	if len(req.Entries) > 0 {
		p.sent = nil // what comes next is another position
	}
	return future, nil
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// forward hands answers on, and at last the one to a request that was not sent.
func (p *pipeline) forward() {
	for last := false; !last; {
		var answer raft.AppendFuture
		select {
		case answer = <-p.AppendPipeline.Consumer():
		case <-p.broken:
			answer, last = p.lost, true
		case <-p.done:
			return
		}
		select {
		case p.answers <- answer:
		case <-p.done:
			return
		}
	}
}

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.all.mu.Lock()
	delete(p.all.open, p)
	p.all.mu.Unlock()
	p.once.Do(func() { close(p.done) })
	return p.AppendPipeline.Close()
}
