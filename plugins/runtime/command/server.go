package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

const (
	// defaultStart is the executor's own default for a start, which ends the process anyway.
	defaultStart = 10 * time.Second
	// firstTry and slowestTry are the pauses between two questions whether the server listens: short at first,
	// because a cold start waits for the answer.
	firstTry, slowestTry = 200 * time.Microsecond, 5 * time.Millisecond
	// idleMost is less than servers keep an idle connection, so that a request never meets a connection which the
	// server is closing.
	idleMost = time.Second
	// deathWait is how long a broken request waits to see whether the server died of it.
	deathWait = 100 * time.Millisecond
)

// server is the program as a web server.
type server struct {
	host    *host
	process *process
	output  *serverOutput
	client  *http.Client
	base    string // http://address:port

	dead chan struct{} // closed when it has ended
	over atomic.Bool   // its end is wanted
	cpu  atomic.Int64  // processor time already reported
	peak struct {
		sync.Mutex
		bytes uint64
		asked time.Time
	}
}

// startServer starts the program and returns when it takes requests.
func (h *host) startServer(ctx context.Context) (*server, error) {
	limit := defaultStart
	if v := h.setup.Env.Get(envStart); v != "" {
		ms, err := strconv.ParseUint(v, 10, 31)
		if err != nil || ms == 0 {
			return nil, covey.Errorf("BadSetting", "%s is %q, which is no number of milliseconds", envStart, v)
		}
		limit = time.Duration(ms) * time.Millisecond
	}
	port, env := h.setup.Env.Get(envPort), h.apiEnv("")
	if port == "" {
		var err error
		if port, err = freePort(); err != nil {
			return nil, fmt.Errorf("choose a port: %w", err)
		}
		env = append(env, envPort+"="+port)
	}
	s := &server{host: h, dead: make(chan struct{}), output: &serverOutput{stderr: h.log.Stderr("")}}
	s.client = &http.Client{
		Transport: &http.Transport{
			DisableCompression: true, MaxIdleConnsPerHost: int(h.setup.Concurrency), IdleConnTimeout: idleMost,
			WriteBufferSize: 32 << 10, ReadBufferSize: 32 << 10,
		},
		// A redirect is the caller's to follow.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if err := s.start(env); err != nil {
		return nil, covey.Errorf("StartFailed", "start %s: %v", h.program.path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := s.awaitReady(ctx, port, limit); err != nil {
		s.process.kill()
		return nil, err
	}
	// From now on the server's end is the instance's.
	go s.follow()
	return s, nil
}

// freePort returns a port that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// start starts the process, and what follows it until its end.
func (s *server) start(env []string) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	output, end, err := newPipe()
	if err != nil {
		return err
	}
	// Standard output goes where standard error goes: this process's own says go-plugin's first line.
	s.process, err = s.host.running.start(s.host.program, env, []uintptr{null.Fd(), uintptr(end), uintptr(end)})
	_ = syscall.Close(end)
	if err != nil {
		return errors.Join(err, output.Close())
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_ = copyAll(s.output, output)
	}()
	go s.reapOrphans()
	go func() {
		s.process.wait()
		output.ended()
		<-copied
		close(s.dead)
	}()
	return nil
}

// reapOrphans reaps what the server's children leave behind, as long as it runs.
func (s *server) reapOrphans() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	defer signal.Stop(died)
	for {
		select {
		case <-died:
			reapOrphans(s.process.pid)
		case <-s.dead:
			return
		}
	}
}

// awaitReady returns when the server listens on the port and says that it is healthy.
func (s *server) awaitReady(ctx context.Context, port string, limit time.Duration) error {
	health := s.host.setup.Env.Get(envHealth)
	last := error(errors.New("nothing listens there"))
	for pause := firstTry; ; pause = min(2*pause, slowestTry) {
		address, err := dial(ctx, port)
		if err == nil {
			s.base = "http://" + address
			if err = s.healthy(ctx, health); err == nil {
				return nil
			}
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-s.dead:
			return s.output.failure("StartFailed", "the server ended before it listened on port "+port+": "+s.process.ending())
		case <-ctx.Done():
			return s.output.failure("StartTimeout", fmt.Sprintf("the server is not ready on port %s after %v: %v", port, limit, last))
		case <-time.After(pause):
		}
	}
}

// dial returns the address at which something listens on the port.
func dial(ctx context.Context, port string) (string, error) {
	var first error
	for _, host := range []string{"127.0.0.1", "::1"} {
		address := net.JoinHostPort(host, port)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			return address, conn.Close()
		}
		if first == nil {
			first = err
		}
	}
	return "", first
}

// healthy asks the server for the path that says so, if there is one.
func (s *server) healthy(ctx context.Context, path string) error {
	if path == "" {
		return nil
	}
	if path[0] != '/' {
		path = "/" + path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, nil)
	if err != nil {
		return err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("GET %s answers with status %d", path, response.StatusCode)
	}
	return nil
}

// follow ends the instance with its server. The exit of this process tells the node about the calls that ran.
func (s *server) follow() {
	<-s.dead
	s.output.flush()
	if s.over.Load() {
		return
	}
	status := s.process.status
	if status.Signaled() {
		os.Exit(128 + int(status.Signal()))
	}
	os.Exit(status.ExitStatus())
}

// shutDown asks the server to end, and returns when it has.
func (s *server) shutDown() {
	s.over.Store(true)
	s.process.end()
	<-s.dead
	s.output.flush()
}

// ending says how the process ended.
func (p *process) ending() string {
	if p.status.Signaled() {
		return fmt.Sprintf("ended by signal %d (%v)", p.status.Signal(), p.status.Signal())
	}
	return fmt.Sprintf("exit status %d", p.status.ExitStatus())
}

// usage returns the processor time that the server used since the last question, and its greatest size. As in the
// SDK, calls that run at once share the time in the order in which they end.
func (s *server) usage() (time.Duration, uint64) {
	now := int64(cpuTime(s.process.pid))
	used := time.Duration(max(now-s.cpu.Swap(now), 0))
	s.peak.Lock()
	defer s.peak.Unlock()
	// The kernel makes that file anew for each reader, so it is not asked for by every call.
	if t := time.Now(); t.Sub(s.peak.asked) > 250*time.Millisecond {
		s.peak.asked, s.peak.bytes = t, peakOf(s.process.pid)
	}
	return used, s.peak.bytes
}
