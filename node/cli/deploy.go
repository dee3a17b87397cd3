package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// deployment is what the flags of `covey deploy` say.
type deployment struct {
	memory       bytesValue
	timeout      time.Duration
	startTimeout time.Duration
	idleTTL      time.Duration
	concurrency  uint32
	queue        int
	minimum      uint32
	maximum      uint32
	env          []string
	envFile      string
	labels       []string
	idempotent   bool
	minSandbox   string
	description  string
	keepLive     bool
	platforms    []string
}

// deployCommand is `covey deploy`. Its flags are no settings: a function's
// configuration must not depend on the shell that it is deployed from.
func (a *app) deployCommand() *cobra.Command {
	d := &deployment{}
	cmd := &cobra.Command{
		Use:   "deploy [APP/]NAME PATH",
		Short: "Deploy a function",
		Long: `Deploy makes a new version of a function and moves the alias "live" to it.

PATH is a folder with a Go main package, which is built as a static binary, or a
binary that is already built for Linux. A version is complete in itself: what no
flag says is the default, whatever the version before had.`,
		Example: `  covey deploy hello ./hello
  covey deploy shop/resize ./resize --memory 512MiB --timeout 1m --max 8 --idempotent
  covey deploy hello ./build/hello --env GREETING=hi --env-file prod.env
  covey deploy hello ./hello --platform linux/amd64,linux/arm64`,
		Args: exactly(2, "NAME and PATH"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.deploy(cmd, d, args[0], args[1]) },
	}
	f := cmd.Flags()
	f.Var(&d.memory, "memory", "memory limit of one instance (default 256MiB)")
	f.DurationVar(&d.timeout, "timeout", 0, "longest run time of one call (default 30s, at most 15m)")
	f.DurationVar(&d.startTimeout, "start-timeout", 0, "longest start of an instance")
	f.DurationVar(&d.idleTTL, "idle-ttl", 0, "how long an unused instance is kept (default 10m)")
	f.Uint32Var(&d.concurrency, "concurrency", 0, "calls that one instance takes at once (default 1)")
	f.IntVar(&d.queue, "queue", -1, "calls that may wait, 0 for none (default 128)")
	f.Uint32Var(&d.minimum, "min", 0, "instances kept warm in the whole cluster")
	f.Uint32Var(&d.maximum, "max", 0, "instances in the whole cluster, 0 for as many as memory holds")
	f.StringArrayVarP(&d.env, "env", "e", nil, "environment variable NAME=VALUE, may be repeated")
	f.StringVar(&d.envFile, "env-file", "", "file with lines NAME=VALUE")
	f.StringArrayVarP(&d.labels, "label", "l", nil, "label NAME=VALUE, may be repeated")
	f.BoolVar(&d.idempotent, "idempotent", false, "a call whose outcome is unknown may run again")
	f.StringVar(&d.minSandbox, "min-sandbox", "none", "least sandbox level of a node: none, hidden, isolated or limited")
	f.StringVar(&d.description, "description", "", "a line for people")
	f.BoolVar(&d.keepLive, "keep-live", false, `leave the alias "live" where it is`)
	f.StringSliceVar(&d.platforms, "platform", nil, "OS/ARCH to build for (default that of this machine's architecture)")
	return cmd
}

// deploy builds, uploads and then names the code in a version, in this order: a
// deploy that breaks off leaves nothing but bytes that nobody names.
func (a *app) deploy(cmd *cobra.Command, d *deployment, target, path string) error {
	app, name, err := a.function(target)
	if err != nil {
		return err
	}
	spec, err := d.spec()
	if err != nil {
		return err
	}
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	binaries, cleanup, err := a.binaries(cmd.Context(), path, d.platforms)
	if err != nil {
		return err
	}
	defer cleanup()
	for _, b := range binaries {
		artifact, err := a.upload(cmd.Context(), c, b)
		if err != nil {
			return err
		}
		spec.Artifacts = append(spec.Artifacts, artifact)
	}
	version, err := c.Deploy(cmd.Context(), app, name, wire.DeployRequest{FunctionSpec: spec, KeepLive: d.keepLive})
	if err != nil {
		return fmt.Errorf("deploy %s/%s: %w", app, name, err)
	}
	if a.json() {
		return a.printJSON(version)
	}
	_, err = fmt.Fprintf(a.env.Stdout, "%s/%s:%d\n", version.App, version.Function, version.Number)
	return err
}

// spec turns the flags into a specification without code.
func (d *deployment) spec() (wire.FunctionSpec, error) {
	spec := wire.FunctionSpec{
		Runtime: "go", MemoryBytes: uint64(d.memory), TimeoutMS: uint64(d.timeout.Milliseconds()),
		StartTimeoutMS: uint64(d.startTimeout.Milliseconds()), IdleTTLMS: uint64(d.idleTTL.Milliseconds()),
		Concurrency: d.concurrency, Min: d.minimum, Max: d.maximum, Idempotent: d.idempotent, Description: d.description,
	}
	for _, given := range []struct {
		flag  string
		value time.Duration
	}{{"timeout", d.timeout}, {"start-timeout", d.startTimeout}, {"idle-ttl", d.idleTTL}} {
		if given.value < 0 {
			return spec, usagef("--%s must not be negative", given.flag)
		}
	}
	if d.queue >= 0 {
		queue := uint32(d.queue)
		spec.Queue = &queue
	}
	level, err := sandbox.ParseLevel(d.minSandbox)
	if err != nil {
		return spec, usagef("--min-sandbox: %w", err)
	}
	spec.MinSandbox = uint32(level)
	env := d.env
	if d.envFile != "" {
		lines, err := readLines(d.envFile)
		if err != nil {
			return spec, err
		}
		env = append(lines, env...) // a flag outdoes the file
	}
	if spec.Env, err = pairs("--env", env); err != nil {
		return spec, err
	}
	spec.Labels, err = pairs("--label", d.labels)
	return spec, err
}

// pairs reads NAME=VALUE; a later one of a name outdoes an earlier one.
func pairs(flag string, items []string) (map[string]string, error) {
	if len(items) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(items))
	for _, item := range items {
		name, value, ok := strings.Cut(item, "=")
		if !ok || name == "" {
			// The value may be a secret: name the flag, not what was given.
			return nil, usagef("%s: want NAME=VALUE", flag)
		}
		m[name] = value
	}
	return m, nil
}

// readLines returns the lines of an env file but empty ones and comments.
func readLines(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read env file: %w", err)
	}
	defer f.Close()
	var lines []string
	s := bufio.NewScanner(f)
	for s.Scan() {
		if line := strings.TrimSpace(s.Text()); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read env file %s: %w", path, err)
	}
	return lines, nil
}

// upload sends one binary, with a progress bar on a terminal.
func (a *app) upload(ctx context.Context, c *client.Client, b binary) (wire.Artifact, error) {
	info, err := os.Stat(b.path)
	if err != nil {
		return wire.Artifact{}, fmt.Errorf("read code: %w", err)
	}
	open := func() (io.ReadCloser, error) {
		f, err := os.Open(b.path)
		if err != nil || a.json() || !terminal(a.env.Stderr) {
			return f, err
		}
		bar := progressbar.NewOptions64(info.Size(), progressbar.OptionSetWriter(a.env.Stderr), progressbar.OptionShowBytes(true),
			progressbar.OptionSetDescription("upload"), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
		return &measured{File: f, bar: bar}, nil
	}
	stored, err := c.Upload(ctx, open, info.Size())
	if err != nil {
		return wire.Artifact{}, fmt.Errorf("upload code: %w", err)
	}
	return wire.Artifact{OS: b.os, Arch: b.arch, Digest: stored.Digest, Size: uint64(stored.Size)}, nil
}

// measured is a file whose reading moves a progress bar. It hides the methods
// of the file by which it could be sent past the bar.
type measured struct {
	*os.File
	bar *progressbar.ProgressBar
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.File.Read(p)
	_ = m.bar.Add(n) // it is for the eye alone
	return n, err
}

// WriteTo copies by Read.
func (m *measured) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{m})
}
