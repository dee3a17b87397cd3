package wasm

import (
	"os"
	"testing"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/plugins/plugintest"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	target := plugintest.ProcessTarget(plugintest.Process{
		Command: []string{os.Args[0]},
		Env:     []string{envBeRuntime + "=1", "TMPDIR=" + t.TempDir()},
		Setup:   &plugins.Setup{Code: conformance(t), Cache: prepared(t), Env: frame.Attributes{{Name: envInit, Value: "1"}}},
	})
	start := target.Start
	target.Start = func(t *testing.T, o plugintest.Options) plugintest.Function {
		if o.Env[program.EnvStream] != "" {
			o.Env = map[string]string{program.EnvStream: "1", envStream: "1"}
		}
		return start(t, o)
	}
	plugintest.Run(t, target)
}
