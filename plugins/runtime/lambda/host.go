package lambda

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// Main is the runtime's process. It does not return.
func Main() {
	h, err := newHost()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lambda:", err)
		os.Exit(1)
	}
	covey.ServeRuntime(h.become)
}

// host is one instance: the function's program, and the calls on their way through it.
type host struct {
	api     *server
	journal *journal
	child   *child
	clients string // the folder of our runtime interface clients

	// Set by become, before the program starts.
	setup    *covey.Setup
	identity identity

	mu      sync.Mutex
	polls   []*poll          // guarded by mu; requests for an event that wait, the oldest first
	queue   []*call          // guarded by mu; calls that the program has not taken
	running map[string]*call // guarded by mu; taken and not answered, by request id
	last    string           // guarded by mu; the request answered last
	life    *life            // guarded by mu; the running program
}

// newHost does all that can be done before anybody knows the function, because a blank process has time.
func newHost() (*host, error) {
	// A relay that passes one call on at a time gains nothing from a second processor: handing work from one to
	// the other costs it a third of its time.
	runtime.GOMAXPROCS(1)
	h := &host{journal: newJournal(os.Stderr), running: make(map[string]*call)}
	var err error
	if h.clients, err = writeClients(); err != nil {
		return nil, err
	}
	if h.child, err = newChild(h.journal); err != nil {
		return nil, err
	}
	h.identity.prepare()
	if h.api, err = newServer(h); err != nil {
		return nil, err
	}
	return h, h.api.warmUp()
}

// writeClients puts our clients where the program can read them: a folder of the process's own.
func writeClients() (string, error) {
	folder, err := os.MkdirTemp(os.Getenv("HOME"), ".lambda-")
	if err != nil {
		return "", fmt.Errorf("write clients: %w", err)
	}
	for name, text := range map[string]string{pythonClient: pythonSource, nodeClient: nodeSource} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return "", fmt.Errorf("write clients: %w", err)
		}
	}
	return folder, nil
}

// become starts the function's program and waits until it asks for its first event.
func (h *host) become(_ context.Context, setup *covey.Setup) (covey.RuntimeHandler, error) {
	program, err := choose(setup, h.clients)
	switch {
	case err != nil && setup.Preparing:
		return nil, nil // Whoever calls it hears of it; here its environment is not even known.
	case err != nil:
		return nil, err
	case setup.Preparing:
		return nil, prepare(setup, program, h.clients)
	}
	if setup.Concurrency > 1 {
		runtime.GOMAXPROCS(min(runtime.NumCPU(), int(setup.Concurrency)))
	}
	h.setup = setup
	h.identity.become(setup, program)
	h.child.use(program, h.identity.environment(setup, program, h.api.address()), setup.Code)
	if err := h.start(); err != nil {
		return nil, err
	}
	return h.handle, nil
}

// handle runs one call.
func (h *host) handle(ctx context.Context, payload []byte, w io.Writer) ([]byte, error) {
	c := newCall(ctx, payload, w)
	h.submit(c)
	r := <-c.done
	h.report(c)
	return r.body, r.err
}
