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
			// Not by an error, see pipeline, but by an answer that says no.
			req := &raft.AppendEntriesRequest{Term: 7}
			if _, err := p.AppendEntries(req, nil); err != nil {
				t.Errorf("send ended with %v", err)
			}
			answer := <-p.Consumer()
			if answer.Response().Success || answer.Request() != req || !errors.Is(answer.Error(), raft.ErrPipelineShutdown) {
				t.Errorf("answer %+v, %v", answer.Response(), answer.Error())
			}
			if again, err := p.AppendEntries(req, nil); again != answer || err != nil {
				t.Errorf("send after the end: %v, %v", again, err)
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
	sent    []raft.AppendEntriesRequest
	answers chan raft.AppendFuture
	err     error
}

func (p *countingPipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

func (p *countingPipeline) Close() error { return nil }

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
		{name: "after a failure", first: at(2, 7, 7), second: at(2, 8, 7), err: raft.ErrPipelineShutdown, want: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				inner := &countingPipeline{err: tc.err}
				p, err := newPipelines(time.Minute, time.Second).add(inner)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.AppendEntries(tc.first, nil); err != nil {
					t.Fatal(err)
				}
				time.Sleep(tc.after) // in the bubble's time
				future, err := p.AppendEntries(tc.second, nil)
				if err != nil || future == nil || tc.err != nil && !errors.Is(future.Error(), tc.err) {
					t.Errorf("second request: future %v, error %v", future, err)
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
				if got := len(inner.sent); got != tc.want {
					t.Errorf("%d requests were sent, want %d", got, tc.want)
				}
			})
		})
	}
}

// TestPipelineHandsAnswersOn: in their order, and the library gives the pipeline
// up when it hears of the request that could not be sent.
func TestPipelineHandsAnswersOn(t *testing.T) {
	t.Parallel()
	inner := &countingPipeline{answers: make(chan raft.AppendFuture)}
	p, err := newPipelines(time.Minute, time.Second).add(inner)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		sent := &lostRequest{start: time.Unix(int64(i), 0)}
		inner.answers <- sent
		if got := <-p.Consumer(); got != sent {
			t.Errorf("answer %d is of %v", i, got.Start())
		}
	}
	inner.answers <- &lostRequest{} // nobody takes it
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
}
