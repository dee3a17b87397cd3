package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client/wire"
)

// join adds a member beside the fake node's own, which has go only.
func (n *fakeNode) join(name, arch string, level uint32, runtimes ...string) {
	n.must(&clusterpb.Command{Op: &clusterpb.Command_PutMember{PutMember: &clusterpb.PutMember{Member: &clusterpb.Member{
		Id: "id-" + name, Name: name, ApiAddress: "127.0.0.1:1", PeerAddress: "127.0.0.1:2", GossipAddress: "127.0.0.1:3",
		Os: "linux", Arch: arch, Cpus: 2, MemoryBytes: 1 << 30, Runtimes: runtimes, SandboxLevel: level, FeatureLevel: state.FeatureLevel,
	}}}})
}

// deployable is the body of a deploy.
func deployable(runtime, rest string) string {
	return fmt.Sprintf(`{"runtime":%q,%s"artifacts":[{"digest":%q,"size":1}]}`, runtime, rest, testDigest)
}

func TestDeployThatNoNodeCanRunSaysWhatEachLacks(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.join("two", "amd64", 0, "go", "exec")
	n.join("three", "arm64", 0, "go", "exec")
	s := newServer(t, n)
	for _, tc := range []struct{ body, want string }{
		{
			deployable("python", ""),
			"no node can run it; one: no python, only go; three, two: no python, only go, exec; " +
				"install python3 (3.9 or newer) on a node and restart its daemon",
		},
		{
			deployable("exec", `"min_sandbox":2,`),
			"no node can run it; one: no exec, only go; three, two: sandbox level none, and the function wants isolated",
		},
		{
			fmt.Sprintf(`{"runtime":"exec","artifacts":[{"os":"linux","arch":"riscv64","digest":%q}]}`, testDigest),
			"three: linux/arm64, and the code is for linux/riscv64",
		},
	} {
		w := do(s, "PUT", echoPath, n.deployer, tc.body)
		refused(t, w, http.StatusUnprocessableEntity, wire.CodeNoNode)
		if !strings.Contains(w.Body.String(), tc.want) {
			t.Errorf("got %s\nwant %s", w.Body, tc.want)
		}
	}
}

func TestDeployThatNoNodeHasTheLabelsForSaysWhichLack(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.label("two", map[string]string{"disk": "hdd", "zone": "a"})
	s := newServer(t, n)
	w := do(s, "PUT", echoPath, n.deployer, deployable("go", `"place":{"disk":"ssd","zone":"a"},`))
	refused(t, w, http.StatusUnprocessableEntity, wire.CodeNoNode)
	want := "no node can run it; one: no label disk=ssd, no label zone=a; two: label disk=hdd, and the function wants disk=ssd; " +
		"labels are given to a node by covey start --label NAME=VALUE"
	if !strings.Contains(w.Body.String(), want) {
		t.Errorf("got %s\nwant %s", w.Body, want)
	}
	n.label("two", map[string]string{"disk": "ssd", "zone": "a"})
	w = do(s, "PUT", echoPath, n.deployer, deployable("go", `"place":{"disk":"ssd"},"affinity":true,`))
	if got := w.Body.String(); w.Code != http.StatusCreated || !strings.Contains(got, `"place":{"disk":"ssd"},"affinity":true`) ||
		!strings.Contains(got, "only 1 of 2 nodes can run it (two); one: no label disk=ssd") {
		t.Errorf("status %d: %s", w.Code, got)
	}
}

// label joins a member that can do what the fake node's own can, or changes its labels.
func (n *fakeNode) label(name string, labels map[string]string) {
	n.must(&clusterpb.Command{Op: &clusterpb.Command_PutMember{PutMember: &clusterpb.PutMember{Member: &clusterpb.Member{
		Id: "id-" + name, Name: name, ApiAddress: "127.0.0.1:1", PeerAddress: "127.0.0.1:2", GossipAddress: "127.0.0.1:3",
		Os: "linux", Arch: "amd64", Cpus: 2, MemoryBytes: 1 << 30, Runtimes: []string{"go"}, Labels: labels, FeatureLevel: state.FeatureLevel,
	}}}})
}

func TestDeployThatSomeNodesCanRunWarns(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	n.join("two", "amd64", 0, "go", "python")
	s := newServer(t, n)
	got := into[wire.Deployed](t, do(s, "PUT", echoPath, n.deployer, deployable("python", "")), http.StatusCreated)
	want := "only 1 of 2 nodes can run it (two); one: no python, only go"
	if len(got.Warnings) != 1 || got.Warnings[0] != want || got.Number == 0 {
		t.Errorf("got %+v, want %q", got, want)
	}
	got = into[wire.Deployed](t, do(s, "PUT", echoPath, n.deployer, deployable("go", "")), http.StatusCreated)
	if len(got.Warnings) != 0 {
		t.Errorf("all can run it, yet %q", got.Warnings)
	}
}

func TestNodesAreListedUpToABound(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 9 {
		names = append(names, fmt.Sprint("n", 8-i))
	}
	if got := listed(names); got != "n0, n1, n2, n3, n4 and 4 more" {
		t.Error(got)
	}
}
