package api

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/node/client/wire"
)

// remedies say what a node needs for a runtime that is not in the binary itself.
var remedies = map[string]string{
	"python": "install python3 (3.9 or newer) on a node and restart its daemon",
	"nodejs": "install nodejs (18 or newer) on a node and restart its daemon",
}

// known refuses a configuration that older nodes of the cluster do not know: they would
// stop at the command.
func (s *Server) known(cfg *clusterpb.VersionConfig) error {
	if s.cfg.Control.View().FeatureLevel() < state.PlacementLevel && state.NeedsPlacement(cfg) {
		return refusal(http.StatusServiceUnavailable, wire.CodeUnavailable,
			"place and affinity need every node to run a release that knows them: see the feature level in the status")
	}
	return nil
}

// noNode gives the refusal of a version that no node can run a text that says
// what each node lacks. Others it returns as they are.
func (s *Server) noNode(err error, cfg *clusterpb.VersionConfig) error {
	refused, ok := errors.AsType[*state.RefusalError](err)
	if !ok || refused.Code != clusterpb.RefusalCode_REFUSAL_CODE_NO_NODE {
		return err
	}
	reasons, _, runtime := lacking(s.cfg.Control.View().Members(), cfg)
	if reasons == "" {
		return err // a node appeared this moment
	}
	text := "no node can run it; " + reasons
	if remedy := remedies[cfg.GetRuntime()]; remedy != "" && runtime {
		text += "; " + remedy
	}
	if len(cfg.GetPlace()) > 0 && strings.Contains(reasons, "label ") {
		text += "; labels are given to a node by covey start --label NAME=VALUE"
	}
	return refusal(http.StatusUnprocessableEntity, wire.CodeNoNode, text)
}

// runnableWarnings tells a deployer that only some nodes can run a version: it
// works, but a node that is alone with it is not to be lost.
func (s *Server) runnableWarnings(cfg *clusterpb.VersionConfig) []string {
	members := s.cfg.Control.View().Members()
	reasons, able, _ := lacking(members, cfg)
	if reasons == "" || len(able) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("only %d of %d nodes can run it (%s); %s", len(able), len(members), listed(able), reasons)}
}

// lacking groups the members that cannot run a version by what they lack.
// runtime tells whether the runtime is among it.
func lacking(members []*state.Member, cfg *clusterpb.VersionConfig) (reasons string, able []string, runtime bool) {
	var order []string
	who := map[string][]string{}
	for _, m := range members {
		why := lack(m, cfg)
		if why == "" {
			able = append(able, m.Name)
			continue
		}
		runtime = runtime || !slices.Contains(m.Runtimes, cfg.GetRuntime())
		if who[why] == nil {
			order = append(order, why)
		}
		who[why] = append(who[why], m.Name)
	}
	for i, why := range order {
		order[i] = listed(who[why]) + ": " + why
	}
	return strings.Join(order, "; "), able, runtime
}

// lack is why one node cannot run a version, or empty. It follows
// state.Member.Eligible.
func lack(m *state.Member, cfg *clusterpb.VersionConfig) string {
	switch {
	case m.Eligible(cfg):
		return ""
	case !slices.Contains(m.Runtimes, cfg.GetRuntime()):
		has := "no runtime at all"
		if len(m.Runtimes) > 0 {
			has = "only " + strings.Join(m.Runtimes, ", ")
		}
		return fmt.Sprintf("no %s, %s", cfg.GetRuntime(), has)
	case m.Artifact(cfg) == nil:
		var machines []string
		for _, a := range cfg.GetArtifacts() {
			machines = append(machines, a.GetOs()+"/"+a.GetArch())
		}
		return fmt.Sprintf("%s/%s, and the code is for %s", m.OS, m.Arch, strings.Join(machines, ", "))
	case m.SandboxLevel < int(cfg.GetMinSandbox()):
		return fmt.Sprintf("sandbox level %s, and the function wants %s", sandbox.Level(m.SandboxLevel), sandbox.Level(cfg.GetMinSandbox()))
	default:
		return mislabelled(m, cfg)
	}
}

// mislabelled says which labels that a version asks for a node does not have.
func mislabelled(m *state.Member, cfg *clusterpb.VersionConfig) string {
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(cfg.GetPlace())) {
		want := cfg.GetPlace()[name]
		has, ok := m.Labels[name]
		switch {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("no label %s=%s", name, want))
		case has != want:
			wrong = append(wrong, fmt.Sprintf("label %s=%s, and the function wants %s=%s", name, has, name, want))
		}
	}
	return strings.Join(wrong, ", ")
}

// listed names some nodes, and counts the others.
func listed(names []string) string {
	const most = 5
	slices.Sort(names)
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}
