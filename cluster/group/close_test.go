package group

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestCloseAnswersEverybody: proposals and reads hammer the group while it closes.
// Raft forgets what is queued when it stops, so nothing may be queued then.
func TestCloseAnswersEverybody(t *testing.T) {
	t.Parallel()
	for range times(3, 50) {
		w := newWorld(t, 1, nil)
		g := w.nodes[0].group
		var callers sync.WaitGroup
		for i := range 32 {
			callers.Go(func() {
				for {
					var err error
					if i%2 == 0 {
						_, err = g.ReadIndex(t.Context())
					} else {
						_, _, err = g.Propose(t.Context(), fmt.Appendf(nil, "k=%d", i))
					}
					if errors.Is(err, ErrClosed) {
						return
					}
				}
			})
		}
		<-time.After(20 * time.Millisecond) // Let them queue up.
		done := make(chan error, 1)
		go func() {
			done <- g.Close()
			callers.Wait()
			close(done)
		}()
		for _, what := range []string{"close", "answer everybody"} {
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			case <-time.After(time.Minute):
				stacks := make([]byte, 1<<20)
				t.Fatalf("group did not %s\n%s", what, stacks[:runtime.Stack(stacks, true)])
			}
		}
		w.close()
	}
}
