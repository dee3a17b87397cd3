package node

import (
	"context"
	"fmt"
	"os"

	"github.com/covey-dev/covey/executor/hosts"
)

// openRuntimes finds out what this machine can host, before the cluster is told.
func (n *Node) openRuntimes(ctx context.Context) error {
	if n.cfg.Program == "" {
		return nil
	}
	program, err := os.Open(n.cfg.Program)
	if err != nil {
		return fmt.Errorf("open program of runtimes: %w", err)
	}
	n.onClose("program of runtimes", program.Close)
	n.runtimes, err = hosts.Detect(ctx, hosts.DetectConfig{
		DataDir: n.cfg.DataDir, Sandbox: n.sandbox, Program: program, Sources: hosts.Sources(), Logger: n.log,
	})
	if err != nil {
		return fmt.Errorf("detect runtimes: %w", err)
	}
	for _, rt := range n.runtimes {
		n.log.Info().Str("runtime", rt.Name).Str("version", rt.Version).Msg("runtime is available")
	}
	return nil
}
