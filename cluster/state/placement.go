package state

import (
	"fmt"
	"maps"
	"slices"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// MaxNodeLabels bounds the labels of a node, and how many a version may ask for.
const MaxNodeLabels = 32

// NeedsPlacement reports whether a configuration has what nodes below
// PlacementLevel do not know. They stop at a command that holds it, so that a
// proposer must not even propose it to a cluster below that level.
func NeedsPlacement(cfg *clusterpb.VersionConfig) bool {
	return len(cfg.GetPlace()) > 0 || cfg.GetAffinity()
}

// placement checks which nodes a version asks for.
func (p *problems) placement(cfg *clusterpb.VersionConfig, level uint32) {
	if !NeedsPlacement(cfg) {
		return
	}
	p.check(level >= PlacementLevel, "place and affinity need feature level %d, the cluster is at %d: upgrade its nodes",
		PlacementLevel, level)
	p.nodeLabels("place", cfg.GetPlace())
}

// nodeLabels says which of some labels are not well formed. The order of messages
// must not depend on the map's.
func (p *problems) nodeLabels(field string, labels map[string]string) {
	p.check(len(labels) <= MaxNodeLabels, "%s: %d labels, at most %d are allowed", field, len(labels), MaxNodeLabels)
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if err := CheckNodeLabel(name, labels[name]); err != nil {
			p.check(false, "%s: %w", field, err)
			return // one is enough to see what is wrong
		}
	}
}

// CheckNodeLabel says what is wrong with a label of a node. A value may be empty.
func CheckNodeLabel(name, value string) error {
	if name == "" || !isLabelText(name) {
		return fmt.Errorf("label %q: want 1 to %d letters, digits, '-', '_', '.' or '/'", clip(name), maxName)
	}
	if !isLabelText(value) {
		return fmt.Errorf("label %s has the value %q: want at most %d letters, digits, '-', '_', '.' or '/'", name, clip(value), maxName)
	}
	return nil
}

func isLabelText(s string) bool {
	if len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if !isWordByte(s[i]) && s[i] != '.' && s[i] != '/' {
			return false
		}
	}
	return true
}
