package plugins

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
)

const (
	// attachTimeout bounds an Attach whose context has no nearer deadline.
	attachTimeout = 10 * time.Second
	// maxLine is the longest line of output that is passed on whole.
	maxLine = 64 << 10
)

// ProcessHandle is the process that go-plugin shall look after.
type ProcessHandle interface {
	// Pid is the process id in this process's pid namespace.
	Pid() int
	// Done is closed when the process has ended.
	Done() <-chan struct{}
}

// AttachConfig says what Attach needs to know about an already started process.
type AttachConfig struct {
	Process ProcessHandle
	// Stdout is the read end of the process's standard output; Attach reads it to its end.
	Stdout io.Reader
	// Output gets every line of Stdout that is not the handshake, without its newline. Lines longer than
	// 64 KiB are split. It must not keep line.
	Output func(line []byte)
	// Translate maps the socket path that the process printed to one that this process can dial (the
	// process may live in another mount namespace). Nil leaves it as it is.
	Translate func(path string) string
	// TempDir is where go-plugin makes a directory for each client. Default is the system's.
	TempDir string
}

// Handshake is the magic cookie and version that host and SDK agree on. The process needs the cookie in its
// environment.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "COVEY_PLUGIN", MagicCookieValue: "1"}
}

// SocketDirKey names the environment variable with the directory for the plugin's socket. It should be
// private to the instance, and its path short: a Unix socket's address has room for about a hundred bytes.
const SocketDirKey = plugin.EnvUnixSocketDir

// Attachment is a go-plugin client around a running instance. Its methods are safe for concurrent use.
type Attachment struct {
	client   *plugin.Client
	protocol plugin.ClientProtocol
	output   *outputReader
	wg       sync.WaitGroup
}

// Attach reads the handshake and connects go-plugin's client. It takes a millisecond or more and belongs off
// the path of calls. It never ends the process. If it fails it still reads Stdout to its end, on a goroutine
// that lasts as long as the process.
func Attach(ctx context.Context, cfg AttachConfig) (*Attachment, error) {
	// go-plugin knows no context, so the context ends the output that it waits for.
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	a := &Attachment{output: newOutputReader(cfg)}
	a.wg.Go(a.output.run)
	stop := context.AfterFunc(ctx, a.output.giveUp)
	defer stop()
	a.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  Handshake(),
		Plugins:          Plugins(),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolNetRPC},
		StartTimeout:     2 * attachTimeout,
		// What go-plugin would log is either in the errors or about a process that the executor watches.
		Logger:           hclog.NewNullLogger(),
		SkipHostEnv:      true,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: cfg.TempDir},
		RunnerFunc: func(hclog.Logger, *exec.Cmd, string) (runner.Runner, error) {
			return &attachedRunner{cfg: cfg, stdout: a.output.handshake}, nil
		},
	})
	protocol, err := a.client.Client()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("attach to process %d: %w", cfg.Process.Pid(), err)
	}
	a.protocol = protocol
	return a, nil
}

// Ping asks the process over go-plugin's control connection whether it lives. It waits for the answer or
// the end of the process.
func (a *Attachment) Ping() error {
	if err := a.protocol.Ping(); err != nil {
		return fmt.Errorf("ping plugin: %w", err)
	}
	return nil
}

// Quit asks the process to end once its running calls have, and closes the connection. It does not wait for
// the end of the process.
func (a *Attachment) Quit() error {
	if err := a.protocol.Close(); err != nil {
		return fmt.Errorf("quit plugin: %w", err)
	}
	return nil
}

// Function returns a client of the function itself over net/rpc, for a process without a data plane.
func (a *Attachment) Function() (*FunctionClient, error) {
	raw, err := a.protocol.Dispense(PluginName)
	if err != nil {
		return nil, fmt.Errorf("dispense function: %w", err)
	}
	client, ok := raw.(*FunctionClient)
	if !ok {
		return nil, fmt.Errorf("dispense function: got %T", raw)
	}
	return client, nil
}

// Close waits for the goroutines of the attachment and frees what go-plugin holds. The process must have
// ended, and every holder of its standard output, or Close waits for them.
func (a *Attachment) Close() error {
	a.client.Kill()
	a.wg.Wait()
	return nil
}

// PluginName is the name under which a go-plugin client dispenses the function.
const PluginName = "function"

// Plugins is the set that a go-plugin client of a function needs.
func Plugins() plugin.PluginSet { return plugin.PluginSet{PluginName: functionPlugin{}} }

// functionPlugin is the client half; the other half is the SDK's.
type functionPlugin struct{}

var _ plugin.Plugin = functionPlugin{}

// Server is not offered: functions are served by the SDK.
func (functionPlugin) Server(*plugin.MuxBroker) (any, error) {
	return nil, errors.New("functions are served by plugins/sdk")
}

// Client wraps the connection that Dispense made.
func (functionPlugin) Client(_ *plugin.MuxBroker, c *rpc.Client) (any, error) {
	return &FunctionClient{c: c}, nil
}

// FunctionClient invokes a function over go-plugin's net/rpc, without deadline, streams or host calls. Nodes
// use Conn instead; this is for tests and for other hosts of go-plugin.
type FunctionClient struct{ c *rpc.Client }

// Invoke runs the function. An error carries the function's text only.
func (f *FunctionClient) Invoke(payload []byte) ([]byte, error) {
	var output []byte
	if err := f.c.Call("Plugin.Invoke", payload, &output); err != nil {
		return nil, fmt.Errorf("invoke over net/rpc: %w", err)
	}
	return output, nil
}

// Close ends the connection.
func (f *FunctionClient) Close() error { return f.c.Close() }

// attachedRunner presents a process that runs already, and that somebody else ends.
type attachedRunner struct {
	cfg    AttachConfig
	stdout io.ReadCloser
}

var _ runner.Runner = (*attachedRunner)(nil)

func (r *attachedRunner) Start(context.Context) error     { return nil }
func (r *attachedRunner) Diagnose(context.Context) string { return "" }
func (r *attachedRunner) Stdout() io.ReadCloser           { return r.stdout }
func (r *attachedRunner) Stderr() io.ReadCloser           { return io.NopCloser(bytes.NewReader(nil)) }
func (r *attachedRunner) Name() string                    { return "function" }
func (r *attachedRunner) ID() string                      { return strconv.Itoa(r.cfg.Process.Pid()) }

// Wait returns when the process has ended.
func (r *attachedRunner) Wait(ctx context.Context) error {
	select {
	case <-r.cfg.Process.Done():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Kill does nothing: go-plugin also kills what it cannot attach to, and that is not its decision.
func (r *attachedRunner) Kill(context.Context) error { return nil }

// PluginToHost finds the socket from here.
func (r *attachedRunner) PluginToHost(network, address string) (string, string, error) {
	if r.cfg.Translate != nil && network == "unix" {
		address = r.cfg.Translate(address)
	}
	return network, address, nil
}

// HostToPlugin leaves addresses alone; the protocol in use sends none.
func (r *attachedRunner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// outputReader splits the process's standard output into the handshake, which go-plugin gets, and the rest,
// which is the function's. User code may print before the handshake, which plain go-plugin does not survive.
type outputReader struct {
	cfg       AttachConfig
	handshake *io.PipeReader
	forward   *io.PipeWriter
}

func newOutputReader(cfg AttachConfig) *outputReader {
	r, w := io.Pipe()
	return &outputReader{cfg: cfg, handshake: r, forward: w}
}

// giveUp makes go-plugin stop waiting for the handshake.
func (o *outputReader) giveUp() {
	_ = o.forward.CloseWithError(errors.New("attach was cancelled"))
}

// run ends with the process's output.
func (o *outputReader) run() {
	defer o.forward.Close()
	reader := bufio.NewReaderSize(o.cfg.Stdout, maxLine)
	waiting := true
	for {
		line, err := reader.ReadSlice('\n')
		if waiting && isHandshake(line) {
			waiting = false
			// go-plugin reads on until its end, so this does not block, unless it gave up and closed.
			_, _ = o.forward.Write(line)
		} else if len(line) > 0 && o.cfg.Output != nil {
			o.cfg.Output(bytes.TrimRight(line, "\r\n"))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// isHandshake reports whether a line is the one that plugins/sdk prints.
func isHandshake(line []byte) bool {
	return bytes.HasPrefix(line, []byte("1|1|unix|/")) && bytes.HasSuffix(bytes.TrimRight(line, "\r\n"), []byte("|netrpc|"))
}
