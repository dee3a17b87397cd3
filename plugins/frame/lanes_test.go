package frame

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// socketLanes makes lanes to an echo over one first connection, as a node and an instance do.
func socketLanes(t *testing.T, most int) *Lanes {
	t.Helper()
	a, b := sockets(t)
	first := run(t, a, SessionConfig{})
	run(t, b, SessionConfig{Control: func(h Header, _ []byte) error {
		if h.Flags&FlagLane == 0 {
			return nil
		}
		file := b.TakeFile()
		if file == nil {
			return errors.New("no descriptor")
		}
		c, err := FileConn(file)
		if err != nil {
			return err
		}
		run(t, c, SessionConfig{Lane: true, Handler: echo})
		return nil
	}})
	lanes := NewLanes(LanesConfig{Max: most, Open: func(context.Context) (*Session, error) {
		c, f, err := SocketPair()
		if err != nil {
			return nil, err
		}
		if err := first.SendLane(f); err != nil {
			_ = c.Close()
			return nil, err
		}
		return NewSession(c, SessionConfig{Lane: true}), nil
	}})
	t.Cleanup(lanes.Close)
	return lanes
}

func TestLanesCarryLargeBodies(t *testing.T) {
	t.Parallel()
	const most = 3
	lanes := socketLanes(t, most)
	var wg sync.WaitGroup
	for range most {
		wg.Go(func() {
			for range 5 {
				s, err := lanes.Get(t.Context())
				if err != nil || s == nil {
					t.Errorf("Get: %v, %v", s, err)
					return
				}
				answer, err := s.Call(t.Context(), InvokeCall, nil, make([]byte, 3<<20))
				if err != nil || len(answer.Body) != 3<<20 {
					t.Errorf("got %d bytes, %v", len(answer.Body), err)
				}
				answer.Release()
				lanes.Put(s)
			}
		})
	}
	wg.Wait()
	lanes.mu.Lock()
	defer lanes.mu.Unlock()
	if len(lanes.all) > most {
		t.Errorf("%d lanes were made, want %d at most", len(lanes.all), most)
	}
}

func TestLanesAreBounded(t *testing.T) {
	t.Parallel()
	lanes := socketLanes(t, 1)
	first, err := lanes.Get(t.Context())
	if err != nil || first == nil {
		t.Fatalf("got %v, %v", first, err)
	}
	if second, err := lanes.Get(t.Context()); second != nil || err != nil {
		t.Errorf("a second lane: %v, %v", second, err)
	}
	lanes.Put(first)
	if again, err := lanes.Get(t.Context()); again != first || err != nil {
		t.Errorf("got %v, %v, want the first lane again", again, err)
	}
}

// TestBrokenLaneIsReplaced checks that a lane which a cancelled call left unusable is not handed out again.
func TestBrokenLaneIsReplaced(t *testing.T) {
	t.Parallel()
	lanes := socketLanes(t, 1)
	first, err := lanes.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lanes.Put(first)
	_ = first.Close()
	eventually(t, func() error {
		s, err := lanes.Get(t.Context())
		if err != nil || s == nil || s == first {
			return errors.Join(errors.New("no new lane"), err)
		}
		lanes.Put(s)
		return nil
	})
}

func TestLanesAfterClose(t *testing.T) {
	t.Parallel()
	lanes := socketLanes(t, 1)
	s, err := lanes.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := lanes.Drain(); err != nil {
		t.Error(err)
	}
	if _, err := lanes.Get(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Drain: %v", err)
	}
	answer, err := s.Call(t.Context(), InvokeCall, nil, nil)
	if err != nil {
		t.Errorf("the call on a drained lane: %v", err)
	}
	answer.Release()
	lanes.Put(s)
	lanes.Close()
	lanes.Close()
	if s.Err() == nil {
		t.Error("the lane outlived its pool")
	}
}

func TestOpenErrorReachesCaller(t *testing.T) {
	t.Parallel()
	lanes := NewLanes(LanesConfig{Open: func(context.Context) (*Session, error) { return nil, errBroken }})
	defer lanes.Close()
	if _, err := lanes.Get(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}
