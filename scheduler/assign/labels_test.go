package assign

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// TestSharesFollowTheLabelsOfNodes lets two nodes change roles, as a restart with
// other labels does.
func TestSharesFollowTheLabelsOfNodes(t *testing.T) {
	t.Parallel()
	s := newScenario()
	label := func(id, disk string) {
		t.Helper()
		if _, err := s.do(&clusterpb.Command{Op: &clusterpb.Command_PutMember{PutMember: &clusterpb.PutMember{Member: &clusterpb.Member{
			Id: id, Os: "linux", Arch: "amd64", Runtimes: []string{"go"}, FeatureLevel: state.FeatureLevel,
			Labels: map[string]string{"disk": disk},
		}}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.do(&clusterpb.Command{Op: &clusterpb.Command_RaiseFeatureLevel{
		RaiseFeatureLevel: &clusterpb.RaiseFeatureLevel{FeatureLevel: state.PlacementLevel},
	}}); err != nil {
		t.Fatal(err)
	}
	label("n1", "ssd")
	label("n2", "hdd")
	label("n3", "ssd")
	cfg := state.WithDefaults(&clusterpb.VersionConfig{
		Runtime: "go", Max: 4, Min: 2, Queue: proto.Uint32(4), Place: map[string]string{"disk": "ssd"},
		Artifacts: []*clusterpb.Artifact{{Digest: strings.Repeat("a", 64)}},
	})
	if _, err := s.do(&clusterpb.Command{Op: &clusterpb.Command_Deploy{Deploy: &clusterpb.Deploy{App: "shop", Name: "cart", Config: cfg}}}); err != nil {
		t.Fatal(err)
	}
	holders := func() []string {
		t.Helper()
		if skipped, err := s.commit(s.plan()); err != nil || len(skipped) > 0 {
			t.Fatalf("skipped %v: %v", skipped, err)
		}
		var nodes []string
		for _, a := range s.store.View().Assignments() {
			for _, p := range a.Places {
				nodes = append(nodes, string(p.Node))
			}
		}
		return nodes
	}
	if got, want := holders(), []string{"n1", "n3"}; !slices.Equal(got, want) {
		t.Errorf("places on %v, want %v", got, want)
	}
	label("n1", "hdd")
	label("n2", "ssd")
	if got, want := holders(), []string{"n2", "n3"}; !slices.Equal(got, want) {
		t.Errorf("places on %v after the labels changed, want %v", got, want)
	}
}
