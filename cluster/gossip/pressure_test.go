package gossip

import (
	"context"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestMembersUnderCPUPressure: in real time, with every processor taken several
// times over by others, members are not taken for dead. It depends on the machine
// by its nature, so it runs in the soak only.
func TestMembersUnderCPUPressure(t *testing.T) {
	if os.Getenv("COVEY_SOAK") == "" {
		t.Skip("set COVEY_SOAK=1 to put real members under CPU pressure")
	}
	s := newSwarm(t, swarmSize(t), newNetwork(3, 0), DefaultTimings())
	defer s.close()
	if err := await(10*time.Minute, s.together); err != nil {
		t.Fatal(err)
	}
	s.measure(t, "real time", 1, 10*time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	var burning sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		burning.Go(func() {
			for x := uint64(1); ctx.Err() == nil; {
				for range 1 << 20 {
					x = x*2862933555777941757 + 3037000493
				}
				runtime.KeepAlive(x)
			}
		})
	}
	s.measure(t, "real time, processors taken", 1, 30*time.Second)
	cancel()
	burning.Wait()
	s.nobodyDied(t, "processors taken")
}
