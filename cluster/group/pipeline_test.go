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
			all := newPipelines(time.Minute)
			p, err := all.add(&stuckPipeline{closed: make(chan struct{})})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if closing {
				time.AfterFunc(time.Second, all.close)
			}
			if _, err := p.AppendEntries(nil, nil); !errors.Is(err, raft.ErrPipelineShutdown) {
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
	all := newPipelines(time.Minute)
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
