package cluster_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/clustertest"
)

func TestMain(m *testing.M) { clustertest.RunMain(m) }

func TestThreeNodesFormAClusterAndAgree(t *testing.T) {
	t.Parallel()
	fleet := clustertest.Start(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i, n := range fleet.Nodes() {
		app := fmt.Sprintf("app-%d", i)
		if err := clustertest.PutLimits(ctx, n, app, uint32(i+1)); err != nil {
			t.Fatalf("write through node %d: %v", i, err)
		}
		if got := clustertest.LimitOf(n.Cluster().View(), app); got != uint32(i+1) {
			t.Errorf("node %d does not see its own write: %d", i, got)
		}
		for j, other := range fleet.Nodes() {
			view, err := other.Cluster().Consistent(ctx)
			if err != nil {
				t.Fatalf("consistent read on node %d: %v", j, err)
			}
			if got := clustertest.LimitOf(view, app); got != uint32(i+1) {
				t.Errorf("node %d does not see the write of node %d", j, i)
			}
		}
	}
	fleet.AwaitSameState()
}
