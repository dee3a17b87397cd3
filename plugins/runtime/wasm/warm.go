package wasm

import (
	"context"
	_ "embed"
	"fmt"
	"os"

	"github.com/covey-dev/covey/plugins/runtime/wasm/checkpoint"
)

// warmModule does a little of what modules do: warm/warm.c.
//
//go:embed warm/warm.wasm
var warmModule []byte

// warmUp runs a small module in the way that the function's will run, so that code and heap are in place when
// somebody waits. It compiles twice, because the second time is the one from the cache.
func (h *host) warmUp(ctx context.Context) error {
	checked, err := checkpoint.Insert(warmModule, hostModule, checkpointName)
	if err != nil {
		return err
	}
	config := withFiles(baseConfig([]string{"warm"}), os.TempDir())
	for range 2 {
		compiled, err := h.engine.compile(ctx, checked)
		if err != nil {
			return err
		}
		warm := &host{engine: h.engine, log: h.log, module: &module{compiled: compiled}, config: config, memory: newBudget(0, 0)}
		c := &call{host: warm, ctx: ctx, env: []string{"A=B"}, input: []byte("warm"), stderr: h.log.Stderr("")}
		if err := c.run(); err != nil {
			return err
		}
		if string(c.output) != "warm" {
			return fmt.Errorf("the module wrote %q", c.output)
		}
		if err := compiled.Close(ctx); err != nil {
			return err
		}
	}
	// Removing files takes time that nobody has later.
	return h.engine.forget()
}
