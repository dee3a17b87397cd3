package command

import (
	"os"
	"testing"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/plugins/plugintest"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// target runs this package's runtime with the program under test. Programs keep what they remember in TMPDIR.
func target(t *testing.T, env frame.Attributes) plugintest.Target {
	return plugintest.ProcessTarget(plugintest.Process{
		Command: []string{os.Args[0]},
		Env:     []string{envBeRuntime + "=1", "TMPDIR=" + t.TempDir(), "PATH=" + os.Getenv("PATH")},
		Setup:   &plugins.Setup{Code: conformance(t), Handler: "conformance", Env: env},
	})
}

func TestConformanceOfProcesses(t *testing.T) {
	t.Parallel()
	suite := target(t, frame.Attributes{{Name: envInit, Value: "1"}})
	start := suite.Start
	suite.Start = func(t *testing.T, o plugintest.Options) plugintest.Function {
		return start(t, streaming(o))
	}
	plugintest.Run(t, suite)
}

func TestConformanceOfServers(t *testing.T) {
	t.Parallel()
	plugintest.Run(t, target(t, frame.Attributes{{Name: envMode, Value: modeHTTP}}))
}

// streaming asks the runtime to stream when the suite asks the program to.
func streaming(o plugintest.Options) plugintest.Options {
	if o.Env[program.EnvStream] != "" {
		o.Env = map[string]string{program.EnvStream: "1", envStream: "1"}
	}
	return o
}
