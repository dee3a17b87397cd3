package group

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// stuckPipeline blocks in AppendEntries until it is closed, as the library's does
// when its reader has nobody to hand answers to.
type stuckPipeline struct{ closed chan struct{} }

func (p *stuckPipeline) AppendEntries(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	<-p.closed
	return nil, raft.ErrPipelineShutdown
}

func (p *stuckPipeline) Consumer() <-chan raft.AppendFuture { return nil }

func (p *stuckPipeline) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

// TestStuckPipelineIsFreed: by its watchdog, and at once when the transport
// closes, which Raft's Shutdown would otherwise wait for.
func TestStuckPipelineIsFreed(t *testing.T) {
	t.Parallel()
	for _, closing := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			all := newPipelines(time.Minute, time.Second)
			p, err := all.add(&stuckPipeline{closed: make(chan struct{})})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if closing {
				time.AfterFunc(time.Second, all.close)
			}
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{}, nil); !errors.Is(err, raft.ErrPipelineShutdown) {
				t.Errorf("send ended with %v", err)
			}
			want := time.Minute
			if closing {
				want = time.Second
			}
			if took := time.Since(start); took != want {
				t.Errorf("closing %v: freed after %v, want %v", closing, took, want)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if len(all.open) != 0 {
				t.Error("closed pipeline is still watched")
			}
		})
	}
}

func TestClosedTransportOpensNoPipeline(t *testing.T) {
	t.Parallel()
	all := newPipelines(time.Minute, time.Second)
	all.close()
	inner := &stuckPipeline{closed: make(chan struct{})}
	if _, err := all.add(inner); !errors.Is(err, raft.ErrTransportShutdown) {
		t.Errorf("error is %v, want ErrTransportShutdown", err)
	}
	select {
	case <-inner.closed:
	default:
		t.Error("refused pipeline is left open")
	}
}

// countingPipeline keeps what was sent.
type countingPipeline struct {
	raft.AppendPipeline
	sent []raft.AppendEntriesRequest
	err  error
}

func (p *countingPipeline) AppendEntries(req *raft.AppendEntriesRequest, _ *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	p.sent = append(p.sent, *req)
	return sentFuture{}, p.err
}

type sentFuture struct{ raft.AppendFuture }

// TestPipelineSaysNothingTwice: an empty request is sent when it has news, and
// else once in a while.
func TestPipelineSaysNothingTwice(t *testing.T) {
	t.Parallel()
	at := func(term, index, commit uint64, entries ...*raft.Log) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{Term: term, PrevLogEntry: index, PrevLogTerm: 1, LeaderCommitIndex: commit, Entries: entries}
	}
	for _, tc := range []struct {
		name   string
		first  *raft.AppendEntriesRequest
		second *raft.AppendEntriesRequest
		after  time.Duration
		err    error
		want   int
	}{
		{name: "repetition", first: at(2, 7, 7), second: at(2, 7, 7), want: 1},
		{name: "repetition later", first: at(2, 7, 7), second: at(2, 7, 7), after: time.Second, want: 2},
		{name: "more is committed", first: at(2, 7, 6), second: at(2, 7, 7), want: 2},
		{name: "the log has moved", first: at(2, 7, 7), second: at(2, 8, 7), want: 2},
		{name: "another term", first: at(2, 7, 7), second: at(3, 7, 7), want: 2},
		{name: "entries", first: at(2, 7, 7), second: at(2, 7, 7, &raft.Log{}), want: 2},
		{name: "after entries", first: at(2, 7, 7, &raft.Log{}), second: at(2, 7, 7), want: 2},
		{name: "after a failure", first: at(2, 7, 7), second: at(2, 7, 7), err: raft.ErrPipelineShutdown, want: 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				inner := &countingPipeline{err: tc.err}
				p, err := newPipelines(time.Minute, time.Second).add(inner)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.AppendEntries(tc.first, nil); !errors.Is(err, tc.err) {
					t.Fatal(err)
				}
				time.Sleep(tc.after) // in the bubble's time
				future, err := p.AppendEntries(tc.second, nil)
				if !errors.Is(err, tc.err) || future == nil {
					t.Errorf("second request: future %v, error %v", future, err)
				}
				if got := len(inner.sent); got != tc.want {
					t.Errorf("%d requests were sent, want %d", got, tc.want)
				}
			})
		})
	}
}
