package sweep

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	beginMark = "<!-- make sim: begin -->"
	endMark   = "<!-- make sim: end -->"
)

var errNoMarks = errors.New("document has no place for the results: " + beginMark + " … " + endMark)

// Write puts the tables between the marks of a document, and the charts into the
// folder figures beside it.
func (rs *Results) Write(document string) error {
	text, err := os.ReadFile(document)
	if err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	before, rest, ok := strings.Cut(string(text), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return errNoMarks
	}
	var b strings.Builder
	base := rs.list[0]
	fmt.Fprintf(&b, "%s\n\n%d nodes at %.0f %% load, gossip %v old, seed %d, %d calls measured:\n\n%s\n",
		beginMark, base.nodes, 100*base.load, base.stale, base.seed, base.reports[0].Calls, rs.Table())
	fmt.Fprintf(&b, "Geometric mean of p99 slowdown in all cells:\n\n%s\n", rs.Sweeps())
	figures := filepath.Join(filepath.Dir(document), "figures")
	if err := os.MkdirAll(figures, 0o755); err != nil {
		return fmt.Errorf("make folder for charts: %w", err)
	}
	for _, group := range []string{"nodes", "load", "staleness", "failures"} {
		chart := rs.Chart(group)
		if chart == "" {
			continue
		}
		name := "sim-" + group + ".svg"
		if err := os.WriteFile(filepath.Join(figures, name), []byte(chart), 0o644); err != nil {
			return fmt.Errorf("write chart: %w", err)
		}
		fmt.Fprintf(&b, "![geometric mean over %s](figures/%s)\n\n", group, name)
	}
	b.WriteString(endMark)
	if err := os.WriteFile(document, []byte(before+b.String()+after), 0o644); err != nil {
		return fmt.Errorf("write document: %w", err)
	}
	return nil
}
