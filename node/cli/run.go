package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/node/cli/local"
	"github.com/covey-dev/covey/node/cli/source"
	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

// localRun is what the flags of `covey run` say.
type localRun struct {
	configuration
	code
	event invocation
	once  bool
	port  uint16
	debug bool
}

// runCommand is `covey run`.
func (a *app) runCommand() *cobra.Command {
	l := &localRun{}
	cmd := &cobra.Command{
		Use:   "run PATH",
		Short: "Run a function on this machine, without a cluster",
		Long: `Run builds a function as deploy does and runs it here, in a node's executor and
sandbox, behind an HTTP endpoint on loopback whose address it prints. When a file is
saved, the function is built again, and further calls go to the new one. Logs and
calls are shown on standard error.

With --once it calls the function one time with the event of -d, -f or standard
input, prints the answer, and ends; exit code 8 means that the function failed.`,
		Example: `  covey run ./hello
  covey run ./hello --port 8080 --env GREETING=hi
  covey run ./hello --once -d '{"name":"you"}'
  covey run function.zip --runtime lambda --once -f event.json`,
		Args: exactly(1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runLocal(cmd, l, args[0]) },
	}
	l.configuration.flags(cmd)
	l.code.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&l.once, "once", false, "call the function one time and end")
	f.StringVarP(&l.event.data, "data", "d", "", "the event of --once")
	f.StringVarP(&l.event.file, "file", "f", "", "file with the event of --once, - for standard input")
	f.StringVar(&l.event.contentType, "content-type", "", "type of the event of --once")
	f.StringArrayVar(&l.event.attributes, "attribute", nil, "fact for the function beside the event of --once, NAME=VALUE, may be repeated")
	f.Uint16Var(&l.port, "port", 0, "port on loopback (default any that is free)")
	f.BoolVar(&l.debug, "debug", false, "show what executor and sandbox say")
	return cmd
}

// workbench is a function being developed: where it comes from and what runs it.
type workbench struct {
	a    *app
	l    *localRun
	cmd  *cobra.Command
	path string

	app, name string
	runner    *local.Runner
}

// runLocal builds, runs, and either calls once or serves until ctx ends.
func (a *app) runLocal(cmd *cobra.Command, l *localRun, path string) (err error) {
	if !l.once && (cmd.Flags().Changed("data") || l.event.file != "") {
		return usagef("-d and -f are for --once; without it, send events to the address that is printed")
	}
	w := &workbench{a: a, l: l, cmd: cmd, path: path}
	defer func() {
		if w.runner != nil {
			err = errors.Join(err, w.runner.Close())
		}
	}()
	if l.once {
		return w.once()
	}
	return w.serve()
}

// made is a function as it is on disk at one moment.
type made struct {
	code *source.Code
	spec wire.FunctionSpec
}

// build makes the code anew, into dir.
func (w *workbench) build(ctx context.Context, dir string) (*made, error) {
	src, err := source.Load(w.path)
	if err != nil {
		return nil, inputError(err)
	}
	w.app, w.name = w.a.appName, first(src.Manifest.Name, "function")
	if src.Manifest.App != "" && !w.cmd.Flags().Changed("app") {
		w.app = src.Manifest.App
	}
	m := &made{}
	if m.spec, err = w.l.spec(w.cmd.Flags(), src.Manifest); err != nil {
		return nil, err
	}
	if m.code, err = src.Make(ctx, w.l.options(w.a, dir)); err != nil {
		return nil, inputError(err)
	}
	return m, nil
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// renew builds and hands the result to the runner, which the first time starts.
// It reports whether anything is new.
func (w *workbench) renew(ctx context.Context) (bool, error) {
	dir, err := os.MkdirTemp("", "covey-build-")
	if err != nil {
		return false, fmt.Errorf("build: %w", err)
	}
	defer os.RemoveAll(dir)
	m, err := w.build(ctx, dir)
	if err != nil {
		return false, err
	}
	if w.runner == nil {
		w.runner, err = local.Start(ctx, local.Config{
			App: w.app, Name: w.name, Runtime: m.code.Runtime, Program: "/proc/self/exe", Warm: !w.l.once,
			Line: w.a.localLog(), Logger: w.logger(),
		})
		if err != nil {
			return false, fmt.Errorf("run %s: %w", w.path, err)
		}
	}
	return w.runner.Use(ctx, m.code, m.spec)
}

// logger is for what lies beneath the function.
func (w *workbench) logger() zerolog.Logger {
	level := zerolog.ErrorLevel
	if w.l.debug {
		level = zerolog.DebugLevel
	}
	console := zerolog.ConsoleWriter{Out: w.a.env.Stderr, TimeFormat: time.TimeOnly, NoColor: w.a.noColor()}
	return zerolog.New(console).Level(level).With().Timestamp().Logger()
}

// once calls the function one time. Its answer alone goes to standard output.
func (w *workbench) once() error {
	ctx := w.cmd.Context()
	body, contentType, err := w.a.event(w.cmd, &w.l.event)
	if err != nil {
		return err
	}
	given, err := pairs("--attribute", w.l.event.attributes)
	if err != nil {
		return err
	}
	if _, err := w.renew(ctx); err != nil {
		return err
	}
	id := ulid.Make().String()
	resp, err := w.runner.Invoke(ctx, &executor.Request{
		ID: id, Attempt: 1, Body: body, ContentType: first(contentType, "application/json"), Attributes: invoke.Attributes(given),
	})
	defer resp.Release()
	if err == nil {
		err = w.a.copyAnswer(resp)
	}
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &client.Error{Problem: local.Problem(err, id)}
	}
	return nil
}

// serve answers calls and follows the files until the command is interrupted.
func (w *workbench) serve() error {
	ctx := w.cmd.Context()
	watcher, err := local.NewWatcher(w.path)
	if err != nil {
		return err
	}
	defer watcher.Close()
	before, err := watcher.Look()
	if err != nil {
		return usagef("%w", err)
	}
	if _, err := w.renew(ctx); err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(w.l.port))))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	w.a.say("%s/%s runs with %s; ^C ends it", w.app, w.name, w.runner.Runtime)
	fmt.Fprintf(w.a.env.Stdout, "http://%s\n", l.Addr())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return local.NewServer(w.runner, w.a.localCall).Serve(ctx, l) })
	g.Go(func() error { return w.reload(ctx, watcher, before) })
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// reload builds again whenever files change. A build writes files itself: what
// the build before changed too is its output, and no reason for another one.
func (w *workbench) reload(ctx context.Context, watcher *local.Watcher, before local.Snapshot) error {
	after, err := watcher.Look()
	if err != nil {
		return err
	}
	output := before.Changes(after)
	for {
		if before, err = watcher.Wait(ctx, after); err != nil {
			return err
		}
		for again := true; again; {
			w.rebuild(ctx)
			if after, err = watcher.Look(); err != nil {
				return err
			}
			changed := before.Changes(after)
			again = false
			for name := range changed {
				again = again || !output[name]
			}
			before, output = after, changed
		}
	}
}

// rebuild replaces the function, or says why not: the version before goes on.
func (w *workbench) rebuild(ctx context.Context) {
	begin := time.Now()
	renewed, err := w.renew(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		w.a.say("%v", err)
		w.a.say("version %d goes on", w.runner.Version())
	case renewed:
		w.a.say("version %d is in place after %s", w.runner.Version(), millis(time.Since(begin)))
	}
}
