package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/covey-dev/covey/internal/archive"
	"github.com/covey-dev/covey/internal/loadgen"
	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// subject is a runtime with a small function for it, and what its bare floor is: a
// program of the same kind that starts and ends, without node and sandbox.
type subject struct {
	runtime string
	handler string
	file    string // name of the one file of the code
	code    func() ([]byte, error)
	floor   []string
}

// text is code that is written down here.
func text(s string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(s), nil } }

// file is code that was built before.
func file(path string) func() ([]byte, error) {
	return func() ([]byte, error) { return os.ReadFile(path) }
}

// subjects are the runtimes that are measured besides "go".
func (b *bench) subjects() []subject {
	return []subject{
		{
			runtime: "python", file: "main.py", code: text("def handler(event, context):\n    return event\n"),
			floor: []string{"/usr/bin/python3", "-I", "-S", "-c", "print(1)"},
		},
		{
			runtime: "nodejs", file: "index.js", code: text("exports.handler = async (event) => event\n"),
			floor: []string{"/usr/bin/node", "-e", "console.log(1)"},
		},
		{
			// AWS's own library; without a node to ask, the program ends at once.
			runtime: "lambda", file: "bootstrap", code: file(filepath.Join(b.functions, "lambda-go")),
			floor: []string{filepath.Join(b.functions, "lambda-go")},
		},
		{runtime: "wasm", file: "hash.wasm", code: file("plugins/examples/hash-wasm/hash.wasm"), floor: []string{"/bin/true"}},
		{runtime: "exec", file: "note.txt", code: text("the program is the machine's\n"), handler: "/bin/cat", floor: []string{"/bin/true"}},
	}
}

// payload is an event of a hundred bytes that every subject takes.
func payload() []byte { return []byte(`{"pad":"` + strings.Repeat("x", 90) + `"}`) }

// runtimes measures every runtime that the nodes host: cold starts, starts per
// second, memory of an idle instance, and warm throughput.
func (b *bench) runtimes(ctx context.Context) (err error) {
	here := b.cluster.members[0]
	if err := b.drainOthers(ctx, true); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.drainOthers(ctx, false)) }()
	hosted, err := b.hosted(ctx, here)
	if err != nil {
		return err
	}
	hello, addr, err := startHello()
	if err != nil {
		return err
	}
	defer hello.end()
	warm := []target{{"hello_for_runtimes", b.http(addr, "/"), func() time.Duration { return treeCPU(hello.pid()) }}}
	for _, s := range b.subjects() {
		if !slices.Contains(hosted, s.runtime) {
			fmt.Fprintf(os.Stderr, " (no %s here)", s.runtime)
			continue
		}
		if err := b.subject(ctx, here, s); err != nil {
			return fmt.Errorf("%s: %w", s.runtime, err)
		}
		load, err := b.warmLoad(ctx, here, "warm-"+s.runtime)
		if err != nil {
			return fmt.Errorf("%s: %w", s.runtime, err)
		}
		warm = append(warm, target{"warm_" + s.runtime, load, func() time.Duration { return treeCPU(here.pid()) }})
	}
	for _, callers := range []int{1, 16} {
		if err := b.cell(ctx, warm, callers, 100); err != nil {
			return err
		}
	}
	return nil
}

// warmLoad calls a function once, to know how long its answer is, and returns a load
// of such calls.
func (b *bench) warmLoad(ctx context.Context, m *member, name string) (func(context.Context, int, int) (loadgen.Result, error), error) {
	node, err := b.cluster.clientOf(m)
	if err != nil {
		return nil, err
	}
	defer node.Close()
	reply, err := node.Invoke(ctx, &client.Call{Function: name, Body: payload(), ContentType: "application/json"})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, callers, _ int) (loadgen.Result, error) {
		return loadgen.Run(ctx, loadgen.Load{
			Addr: m.api, Path: "/v1/functions/" + name + "/invocations", Body: payload(), WantBody: len(reply.Body),
			Callers: callers, Duration: b.plan.each,
			Header: []string{"Authorization: Bearer " + b.cluster.token, "Content-Type: application/json"},
		})
	}, nil
}

// drainOthers drains all nodes but the first, or ends that.
func (b *bench) drainOthers(ctx context.Context, drain bool) error {
	for _, m := range b.cluster.members[1:] {
		if err := b.cluster.client.Drain(ctx, m.name, drain); err != nil {
			return err
		}
	}
	return nil
}

// hosted are the runtimes that a node says it has.
func (b *bench) hosted(ctx context.Context, m *member) ([]string, error) {
	list, err := b.cluster.client.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range list {
		if n.Name == m.name {
			return n.Runtimes, nil
		}
	}
	return nil, fmt.Errorf("node %s is not in the list", m.name)
}

// subject measures one runtime but for its warm throughput.
func (b *bench) subject(ctx context.Context, here *member, s subject) error {
	path, err := b.pack(s)
	if err != nil {
		return err
	}
	spec := wire.FunctionSpec{Runtime: s.runtime, Handler: s.handler, MemoryBytes: 256 << 20}
	node, err := b.cluster.clientOf(here)
	if err != nil {
		return err
	}
	defer node.Close()
	before := children(here.pid())

	colds := names("cold-"+s.runtime, b.plan.colds+1)
	if err := b.deployAll(ctx, colds, path, spec); err != nil {
		return err
	}
	figures, err := measureColds(ctx, node, colds, func() (float64, error) { return execFloor(ctx, s.floor) })
	if err != nil {
		return err
	}
	b.report.add(figures.rows("exec_floor_"+s.runtime, "cold_start_"+s.runtime, strings.Join(s.floor, " "))...)
	pss := instances(here.pid(), before)
	b.report.add(row{
		Name: "instance_pss_" + s.runtime, Unit: "MiB", Value: median(pss), spread: [2]float64{quantile(pss, 0), quantile(pss, 1)},
		note: fmt.Sprintf("median of %d, blanks among them", len(pss)),
	})
	starts := names("burst-"+s.runtime, b.plan.starts/2)
	if err := b.deployAll(ctx, starts, path, spec); err != nil {
		return err
	}
	rate, err := b.startAll(ctx, starts)
	if err != nil {
		return err
	}
	b.report.add(row{Name: "starts_per_second_" + s.runtime, Callers: starters, Unit: "starts/s", Value: rate})
	spec.Concurrency = 16
	if err := b.deployAll(ctx, []string{"warm-" + s.runtime}, path, spec); err != nil {
		return err
	}
	// Instances that idle beside the next measurement would not disturb it, but take
	// their memory from it.
	for _, name := range append(colds, starts...) {
		if err := b.cluster.client.DeleteFunction(ctx, "default", name); err != nil {
			return err
		}
	}
	return nil
}

// names makes up names.
func names(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return all
}

func (b *bench) deployAll(ctx context.Context, names []string, path string, spec wire.FunctionSpec) error {
	for _, name := range names {
		if err := b.cluster.deploy(ctx, name, path, spec); err != nil {
			return fmt.Errorf("deploy %s: %w", name, err)
		}
	}
	return nil
}

// pack writes the subject's archive and returns its path.
func (b *bench) pack(s subject) (string, error) {
	code, err := s.code()
	if err != nil {
		return "", err
	}
	var zip bytes.Buffer
	if err := archive.PackFile(&zip, s.file, bytes.NewReader(code), true); err != nil {
		return "", err
	}
	path := filepath.Join(b.dir, s.runtime+".zip")
	return path, os.WriteFile(path, zip.Bytes(), 0o644)
}

// execFloor runs a program to its end, in milliseconds.
func execFloor(ctx context.Context, args []string) (float64, error) {
	begun := time.Now()
	// It may end with any status: what counts is that it came up.
	if _, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil && !exited(err) {
		return 0, err
	}
	return micros(time.Since(begun)) / 1000, nil
}

// exited tells whether a program ran and ended by itself.
func exited(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.Exited()
}

// instances returns the proportional set sizes, in MiB, of the instances of a node
// but those in before: each with its process 1, parked stages left out.
func instances(node int, before []int) []float64 {
	var pss []float64
	for _, stage := range children(node) {
		inside := descendants(stage)
		if slices.Contains(before, stage) || len(inside) == 0 || command(inside[0]) == command(stage) {
			continue // a parked stage is still the program of its process 1
		}
		sum, _ := memory(stage)
		for _, pid := range inside {
			p, _ := memory(pid)
			sum += p
		}
		if sum > 0 {
			pss = append(pss, sum/1024)
		}
	}
	return pss
}

// command is the name of a process's program.
func command(pid int) string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // of one that is gone, nothing
	return strings.TrimSpace(string(name))
}
