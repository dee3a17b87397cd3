package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/covey-dev/covey/internal/loadgen"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
)

// serveHello is the reference: a bare net/http server that reads a body and
// answers with it. It prints its address and serves until ctx ends.
func serveHello(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body)
	})}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// startHello starts the reference as a process of its own.
func startHello() (*proc, string, error) {
	cmd := exec.Command(os.Args[0], "hello")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	p, err := start(cmd)
	if err != nil {
		return nil, "", err
	}
	var addr string
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		p.kill()
		return nil, "", fmt.Errorf("start hello: %w", err)
	}
	return p, addr, nil
}

// target is one row of the table of calls.
type target struct {
	name string
	// run sends calls for a while, and cpu is what the other side has used so far.
	run func(ctx context.Context, callers, bytes int) (loadgen.Result, error)
	cpu func() time.Duration
}

// calls measures hello, plugin call, local warm and one hop, alternating.
func (b *bench) calls(ctx context.Context) error {
	spec := wire.FunctionSpec{Concurrency: 64}
	if err := b.cluster.deploy(ctx, "echo", b.echo, spec); err != nil {
		return err
	}
	// Everything runs on the first node: the others are drained, so that a call
	// that enters at the second takes one hop.
	if err := b.drainOthers(ctx, true); err != nil {
		return err
	}
	hello, helloAddr, err := startHello()
	if err != nil {
		return err
	}
	defer hello.end()
	echo, err := startPlugin(b.echo)
	if err != nil {
		return err
	}
	defer echo.close()
	here, there := b.cluster.members[0], b.cluster.members[1]
	const path = "/v1/functions/echo/invocations"
	targets := []target{
		{"hello", b.http(helloAddr, "/"), func() time.Duration { return treeCPU(hello.pid()) }},
		{"plugin_call", echo.load(b.plan.each), echo.cpu},
		{"local_warm", b.http(here.api, path), func() time.Duration { return treeCPU(here.pid()) }},
		{"one_hop", b.http(there.api, path), func() time.Duration { return treeCPU(here.pid()) + treeCPU(there.pid()) }},
	}
	for _, bytes := range b.plan.bytes {
		for _, callers := range b.plan.callers {
			if err := b.cell(ctx, targets, callers, bytes); err != nil {
				return err
			}
		}
	}
	return b.drainOthers(ctx, false)
}

// http returns a load of POSTs with the token.
func (b *bench) http(addr, path string) func(context.Context, int, int) (loadgen.Result, error) {
	return func(ctx context.Context, callers, bytes int) (loadgen.Result, error) {
		return loadgen.Run(ctx, loadgen.Load{
			Addr: addr, Path: path, Body: make([]byte, bytes), WantBody: bytes, Callers: callers, Duration: b.plan.each,
			Header: []string{"Authorization: Bearer " + b.cluster.token, "Content-Type: application/octet-stream"},
		})
	}
}

// sample is one row in one round.
type sample struct{ rate, cpu, client, p50, p99 float64 }

// cell measures all targets with the same callers and bytes, round by round.
func (b *bench) cell(ctx context.Context, targets []target, callers, bytes int) error {
	samples := make([][]sample, len(targets))
	for round := range b.plan.rounds + 1 { // the first warms up
		for i, t := range targets {
			before := t.cpu()
			r, err := t.run(ctx, callers, bytes)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			if r.Calls == 0 || r.Errors > r.Calls/100 {
				return fmt.Errorf("%s with %d callers of %d bytes: %d calls, %d errors, the first: %w", t.name, callers, bytes, r.Calls, r.Errors, r.FirstError)
			}
			if round == 0 {
				continue
			}
			used := t.cpu() - before
			samples[i] = append(samples[i], sample{
				rate: r.PerSecond(), cpu: micros(used) / float64(r.Calls), client: micros(r.CPUPerCall()),
				p50: micros(r.P50) / 1000, p99: micros(r.P99) / 1000,
			})
		}
	}
	reference := samples[0]
	for i, t := range targets {
		of := func(get func(sample) float64) []float64 {
			var xs []float64
			for _, s := range samples[i] {
				xs = append(xs, get(s))
			}
			return xs
		}
		rates := of(func(s sample) float64 { return s.rate })
		x := row{
			Name: t.name, Callers: callers, Bytes: bytes, Unit: "calls/s", Value: median(rates),
			CPUUS:       median(of(func(s sample) float64 { return s.cpu })),
			ClientCPUUS: median(of(func(s sample) float64 { return s.client })),
			p50:         median(of(func(s sample) float64 { return s.p50 })),
			p99:         median(of(func(s sample) float64 { return s.p99 })),
			spread:      [2]float64{quantile(rates, 0), quantile(rates, 1)},
		}
		x.Ratio, x.CPURatio = ratios(reference, samples[i])
		b.report.add(x)
	}
	return nil
}

// ratios are the medians of the rounds' own ratios to the reference: rate to
// rate, and the reference's processor time to this one's.
func ratios(reference, these []sample) (rate, cpu float64) {
	var rates, cpus []float64
	for i := range these {
		rates = append(rates, these[i].rate/reference[i].rate)
		if these[i].cpu > 0 {
			cpus = append(cpus, reference[i].cpu/these[i].cpu)
		}
	}
	return median(rates), median(cpus)
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// plugin is a function's process without node and sandbox around it.
type plugin struct {
	proc *proc
	conn *plugins.Conn
	dir  string
}

// startPlugin executes a function and returns once it is ready.
func startPlugin(program string) (*plugin, error) {
	local, remote, err := plugins.Pair()
	if err != nil {
		return nil, err
	}
	defer remote.Close()
	dir, err := os.MkdirTemp("", "covey-plugin-")
	if err != nil {
		return nil, err
	}
	handshake := plugins.Handshake()
	cmd := exec.Command(program)
	cmd.ExtraFiles = []*os.File{remote}
	cmd.Env = []string{handshake.MagicCookieKey + "=" + handshake.MagicCookieValue, plugins.SocketDirKey + "=" + dir}
	p := &plugin{dir: dir}
	if p.proc, err = start(cmd); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p.conn = plugins.NewConn(local, plugins.ConnConfig{})
	return p, nil
}

func (p *plugin) call(ctx context.Context, body []byte) error {
	reply, err := p.conn.Invoke(ctx, &plugins.Call{Invoke: frame.Invoke{RequestID: "bench", Attempt: 1}, Body: body})
	if err != nil {
		return err
	}
	defer reply.Release()
	if len(reply.Body) != len(body) {
		return fmt.Errorf("answer of %d bytes, want %d", len(reply.Body), len(body))
	}
	return nil
}

func (p *plugin) close() {
	_ = p.conn.Close()
	p.proc.kill()
	_ = os.RemoveAll(p.dir)
}

// cpu is the plugin's own; the caller's is the generator's.
func (p *plugin) cpu() time.Duration { return treeCPU(p.proc.pid()) }

// load calls the plugin directly from so many goroutines.
func (p *plugin) load(each time.Duration) func(context.Context, int, int) (loadgen.Result, error) {
	return func(ctx context.Context, callers, bytes int) (loadgen.Result, error) {
		body := make([]byte, bytes)
		return loadgen.Measure(ctx, callers, each, func() error { return p.call(ctx, body) })
	}
}
