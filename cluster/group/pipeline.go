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

	mu     sync.Mutex
	closed bool
	open   map[*pipeline]struct{}
}

func newPipelines(patience time.Duration) *pipelines {
	return &pipelines{patience: patience, open: make(map[*pipeline]struct{})}
}

// add watches over a pipeline from now on.
func (s *pipelines) add(inner raft.AppendPipeline) (raft.AppendPipeline, error) {
	p := &pipeline{AppendPipeline: inner, all: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = inner.Close()
		return nil, raft.ErrTransportShutdown
	}
	s.open[p] = struct{}{}
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

// pipeline is a pipeline that does not wait for ever.
type pipeline struct {
	raft.AppendPipeline
	all *pipelines
}

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	watchdog := time.AfterFunc(p.all.patience, func() { _ = p.AppendPipeline.Close() })
	defer watchdog.Stop()
	return p.AppendPipeline.AppendEntries(req, resp)
}

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.all.mu.Lock()
	delete(p.all.open, p)
	p.all.mu.Unlock()
	return p.AppendPipeline.Close()
}
