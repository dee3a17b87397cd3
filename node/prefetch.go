package node

import (
	"context"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
)

const (
	// codeAheadBytes bounds the code that a node fetches before it is called for:
	// all of it in most clusters. Beyond it a node has what it owns and what it ran.
	codeAheadBytes = 1 << 30
	// codeRetry is the pause after code that could not be fetched.
	codeRetry = 10 * time.Second
)

// keepCode fetches the code of the versions that aliases name and that may run
// here, and has it unpacked and prepared, before anybody calls them: so that a first
// call need not wait for it, and so that this node can serve them when it is left
// alone.
func (n *Node) keepCode(ctx context.Context) error {
	have := map[string]bool{}
	for {
		changed := n.cluster.Changed() // before View, so that no change is missed
		var again <-chan time.Time
		if !n.fetchAhead(ctx, n.cluster.View(), have) {
			again = time.After(codeRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-again:
		}
	}
}

// fetchAhead fetches what have lacks and reports whether it got all of it.
func (n *Node) fetchAhead(ctx context.Context, view *state.View, have map[string]bool) bool {
	self := view.Member(n.cluster.ID())
	if self == nil {
		return true
	}
	all, budget := true, uint64(codeAheadBytes)
	for _, f := range view.Functions("") {
		for _, ver := range f.Versions {
			if !f.Named(ver.Key.Number) || !self.Eligible(ver.Config) {
				continue
			}
			artifact := self.Artifact(ver.Config)
			if artifact == nil || artifact.GetSize() > budget {
				continue
			}
			budget -= artifact.GetSize()
			spec := executor.Spec{Runtime: ver.Config.GetRuntime(), Digest: artifact.GetDigest(), Handler: ver.Config.GetHandler()}
			id := spec.Runtime + " " + spec.Digest
			if have[id] || ctx.Err() != nil {
				continue
			}
			if err := n.exec.Prepare(ctx, &spec); err != nil {
				n.log.Debug().Str("function", ver.Key.String()).Err(err).Msg("code not prepared ahead")
				all = false
				continue
			}
			have[id] = true
		}
	}
	return all
}
