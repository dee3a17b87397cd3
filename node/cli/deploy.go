package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/node/cli/manifest"
	"github.com/covey-dev/covey/node/cli/source"
	"github.com/covey-dev/covey/node/client/wire"
)

// deployment is what the flags of `covey deploy` say.
type deployment struct {
	configuration
	code
	warmUp
	keepLive bool
}

// deployCommand is `covey deploy`. Its flags are no settings: a function's
// configuration must not depend on the shell that it is deployed from.
func (a *app) deployCommand() *cobra.Command {
	d := &deployment{}
	cmd := &cobra.Command{
		Use:   "deploy [[APP/]NAME] PATH",
		Short: "Deploy a function",
		Long: `Deploy makes a new version of a function and moves the alias "live" to it.

PATH is a folder, packed but for what .coveyignore names, or a file: a program,
a .wasm module, a zip made for AWS Lambda, a single .py or .js. The folder's
covey.yaml says what the function is; flags outdo it, and without either the files
tell the runtime. Go main packages are built as static binaries.

With --warm, instances of the new version are started on as many nodes as the old one
is warm on, and live moves when they are ready. If they do not get ready, live stays.

A version is complete in itself: what is said nowhere is the default, whatever the
version before had.`,
		Example: `  covey deploy ./resize                       # all of it is in ./resize/covey.yaml
  covey deploy hello ./hello
  covey deploy shop/resize ./resize --memory 512MiB --timeout 1m --max 8 --idempotent
  covey deploy hello ./hello --env GREETING=hi --env-file prod.env
  covey deploy report ./report --runtime python --handler main.handler
  covey deploy legacy function.zip --handler lambda_function.lambda_handler
  covey deploy hello ./hello --warm auto      # live moves once the new version is warm
  covey deploy report ./report --place disk=ssd
  covey deploy hello ./hello --platform linux/amd64,linux/arm64`,
		Args: between(1, 2, "a NAME, unless covey.yaml has it, and a PATH"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.deploy(cmd, d, args) },
	}
	d.configuration.flags(cmd)
	d.code.flags(cmd)
	d.warmUp.flags(cmd)
	cmd.Flags().BoolVar(&d.keepLive, "keep-live", false, `leave the alias "live" where it is`)
	cmd.Flags().StringSliceVar(&d.platforms, "platform", nil, "OS/ARCH to build Go for (default that of this machine's architecture)")
	return cmd
}

// deploy builds, uploads and then names the code in a version, in this order: a
// deploy that breaks off leaves nothing but bytes that nobody names.
func (a *app) deploy(cmd *cobra.Command, d *deployment, args []string) error {
	if d.keepLive && d.wanted() {
		return usagef("--warm moves live in the end, and --keep-live does not")
	}
	if err := d.warmUp.check(); err != nil {
		return err
	}
	src, err := source.Load(args[len(args)-1])
	if err != nil {
		return inputError(err)
	}
	app, name, err := a.nameOf(cmd, args[:len(args)-1], src)
	if err != nil {
		return err
	}
	spec, err := d.spec(cmd.Flags(), src.Manifest)
	if err != nil {
		return err
	}
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	dir, err := os.MkdirTemp("", "covey-deploy-")
	if err != nil {
		return fmt.Errorf("build: %w", err)
	}
	defer os.RemoveAll(dir)
	code, err := src.Make(cmd.Context(), d.options(a, dir))
	if err != nil {
		return inputError(err)
	}
	spec.Runtime, spec.Handler = code.Runtime, code.Handler
	for _, artifact := range code.Artifacts {
		stored, err := a.upload(cmd.Context(), c, artifact)
		if err != nil {
			return err
		}
		spec.Artifacts = append(spec.Artifacts, stored)
	}
	request := wire.DeployRequest{FunctionSpec: spec, KeepLive: d.keepLive}
	var version *wire.Deployed
	if d.wanted() {
		version, err = a.deployWarm(cmd.Context(), c, &d.warmUp, app, name, request)
	} else {
		version, err = c.Deploy(cmd.Context(), app, name, request)
	}
	if err != nil {
		return fmt.Errorf("deploy %s/%s: %w", app, name, err)
	}
	for _, warning := range version.Warnings {
		a.say("warning: %s", warning)
	}
	if a.json() {
		return a.printJSON(version)
	}
	_, err = fmt.Fprintf(a.env.Stdout, "%s/%s:%d\n", version.App, version.Function, version.Number)
	return err
}

// nameOf finds the function's name and app. For the app, the flag goes before the
// file and the file before the shell's setting.
func (a *app) nameOf(cmd *cobra.Command, args []string, src *source.Source) (app, name string, err error) {
	if m := src.Manifest; m.App != "" && !cmd.Flags().Changed("app") {
		a.appName = m.App
	}
	target := src.Manifest.Name
	if len(args) > 0 {
		target = args[0]
	}
	if target == "" {
		return "", "", usagef("%s: the function has no name: give one before the path, or write name in its %s", src.Path, manifest.FileName)
	}
	return a.function(target)
}
