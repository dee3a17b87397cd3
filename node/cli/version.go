package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is stamped in by the linker (see the Makefile) and never set otherwise.
var version string

// build is what a binary knows of itself.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// thisBuild asks the binary, so that it is right for `go install` too.
func thisBuild() build {
	b := build{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version = info.Main.Version
	if version != "" {
		b.Version = version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// versionCommand is `covey version`.
func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version of this binary",
		Example: "  covey version -o json",
		Args:    none,
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			if a.json() {
				return a.printJSON(b)
			}
			_, err := fmt.Fprintf(a.env.Stdout, "covey %s %s %s\n", b.Version, b.Platform, b.Go)
			return err
		},
	}
}
