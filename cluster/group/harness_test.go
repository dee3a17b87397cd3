package group

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/covey-dev/covey/internal/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soak says whether the reliability table's own counts are run, by `make soak`.
func soak() bool { return os.Getenv("COVEY_SOAK") != "" }

// times returns the full count under soak, else the reduced one.
func times(reduced, full int) int {
	if soak() {
		return full
	}
	return reduced
}

// eventually polls until check returns nil, and reports its last error.
func eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	var err error
	for {
		if err = check(); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// authority signs the certificates of one test cluster.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test ca"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert: cert, key: key, pool: pool}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// config returns a node's TLS configuration; its id is the certificate's name.
func (a *authority) config(t testing.TB, id NodeID) *tls.Config {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: string(id)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      a.pool,
	}
}

func byName(c *x509.Certificate) (NodeID, error) { return NodeID(c.Subject.CommonName), nil }

// record is a state machine: registers, a count and a hash over the whole history.
type record struct {
	mu      sync.Mutex
	state   recordState
	ballast int64   // bytes of zeros behind each snapshot
	before  func()  // called in Apply, outside the lock
	errs    []error // broken order
}

type recordState struct {
	Index  Index
	Count  int
	Hash   [32]byte
	Values map[string]string
}

func newRecord() *record { return &record{state: recordState{Values: map[string]string{}}} }

func (r *record) Apply(index Index, data []byte) any {
	r.mu.Lock()
	before := r.before
	r.mu.Unlock()
	if before != nil {
		before()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if index <= r.state.Index {
		r.errs = append(r.errs, fmt.Errorf("applied %d after %d", index, r.state.Index))
	}
	r.state.Index = index
	r.state.Count++
	r.state.Hash = sha256.Sum256(append(r.state.Hash[:], data...))
	if key, value, ok := strings.Cut(string(data), "="); ok && len(data) < 1024 {
		r.state.Values[key] = value
	}
	return r.state.Count
}

func (r *record) Snapshot() (Snapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := json.Marshal(r.state)
	return frozen{b, r.ballast}, err
}

func (r *record) Restore(index Index, src io.Reader) error {
	var s recordState
	dec := json.NewDecoder(src)
	if err := dec.Decode(&s); err != nil {
		return err
	}
	ballast, err := io.Copy(io.Discard, io.MultiReader(dec.Buffered(), src))
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Index = index
	r.state, r.ballast = s, ballast
	return nil
}

func (r *record) read() recordState {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.Values = maps.Clone(s.Values)
	return s
}

func (r *record) get(key string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.Values[key]
}

// frozen is a captured record: its state and its ballast.
type frozen struct {
	state   []byte
	ballast int64
}

func (f frozen) Write(w io.Writer) error {
	_, err := w.Write(f.state)
	zeros := make([]byte, 1<<20)
	for left := f.ballast; left > 0 && err == nil; left -= int64(len(zeros)) {
		_, err = w.Write(zeros[:min(left, int64(len(zeros)))])
	}
	return err
}

func (f frozen) Release() {}

// fastTimings are short, but leave room for the race detector on a shared core.
func fastTimings() Timings {
	return Timings{
		Heartbeat: 300 * time.Millisecond, Election: 300 * time.Millisecond, Lease: 240 * time.Millisecond,
		RPC: 3 * time.Second, Dial: time.Second,
		Health: 200 * time.Millisecond, Reconcile: 200 * time.Millisecond,
		Stable: 200 * time.Millisecond, Replace: 800 * time.Millisecond,
	}
}

// world is a set of nodes on loopback with one group, and the links between them.
type world struct {
	t      testing.TB
	ca     *authority
	tune   func(*Config)
	closed sync.Once

	mu    sync.Mutex
	nodes []*node
	made  int                // nodes ever made: an id is never used again
	known []Server           // what the "replicated state" lists
	cut   map[[2]string]bool // by addresses, both directions
	conns map[*link]struct{}
}

// node is one machine of the world; its directory outlives its group.
type node struct {
	w     *world
	id    NodeID
	addr  string
	dir   string
	fsm   *record
	mux   *Mux
	group *Group
	log   LogStore // survives restarts, unless the test is about disks
	stop  func()
	exits chan error
}

// link is a dialled connection that the world can break.
type link struct {
	net.Conn
	w    *world
	ends [2]string
}

func (l *link) Close() error {
	l.w.mu.Lock()
	delete(l.w.conns, l)
	l.w.mu.Unlock()
	return l.Conn.Close()
}

// newWorld makes n nodes; the first has founded the group. tune may be nil.
func newWorld(t testing.TB, n int, tune func(*Config)) *world {
	t.Helper()
	w := &world{
		t: t, ca: newAuthority(t), tune: tune,
		cut: map[[2]string]bool{}, conns: map[*link]struct{}{},
	}
	t.TempDir() // so that directories are removed after the nodes have stopped
	t.Cleanup(w.close)
	for range n {
		w.add()
	}
	for _, nd := range w.nodes {
		nd.start()
	}
	if err := w.nodes[0].group.Bootstrap(); err != nil {
		t.Fatal(err)
	}
	w.leader()
	return w
}

// newVoters makes a world in which all n nodes vote, without autopilot.
func newVoters(t testing.TB, n int, tune func(*Config)) *world {
	t.Helper()
	w := newWorld(t, n, func(c *Config) {
		c.ManualMembership = true
		if tune != nil {
			tune(c)
		}
	})
	for _, nd := range w.nodes[1:] {
		s := Server{ID: nd.id, Addr: nd.addr}
		eventually(t, time.Minute, "a vote for "+string(nd.id), func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			g := w.leader().group
			if err := g.AddStandby(ctx, s); err != nil {
				return err
			}
			return g.AddVoter(ctx, s)
		})
	}
	return w
}

// add makes a node and lists it; it is not started.
func (w *world) add() *node {
	w.t.Helper()
	address := loopback.Address(w.t)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made++
	nd := &node{
		w: w, id: NodeID(fmt.Sprintf("node-%d", w.made)), addr: address,
		dir: filepath.Join(w.t.TempDir(), "group"), exits: make(chan error, 4),
		log: memStore{raft.NewInmemStore()},
	}
	w.nodes = append(w.nodes, nd)
	w.known = append(w.known, Server{ID: nd.id, Addr: nd.addr})
	return nd
}

func (w *world) servers() []Server {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Server(nil), w.known...)
}

// forget takes a node off the list, as an operator's removal does.
func (w *world) forget(id NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var kept []Server
	for _, s := range w.known {
		if s.ID != id {
			kept = append(kept, s)
		}
	}
	w.known = kept
}

func (w *world) close() {
	w.closed.Do(func() {
		for _, nd := range w.nodes {
			nd.kill()
		}
	})
}

// onDisk keeps the log in its file, for tests that are about it. The others keep
// it in memory, because the test machine's disk is shared and slow.
func onDisk(c *Config) { c.Disk.Wrap = nil }

// start runs the node on its address and directory, as after a reboot.
func (nd *node) start() {
	w := nd.w
	w.t.Helper()
	if err := nd.tryStart(); err != nil {
		w.t.Fatal(err)
	}
}

func (nd *node) tryStart() error {
	w := nd.w
	l, err := net.Listen("tcp", nd.addr)
	if err != nil {
		return err
	}
	nd.addr = l.Addr().String()
	tlsConfig := w.ca.config(w.t, nd.id)
	nd.mux, err = NewMux(MuxConfig{
		Listener: l, TLS: func() *tls.Config { return tlsConfig }, Identify: byName,
		Dial: func(ctx context.Context, addr string) (net.Conn, error) { return w.dial(ctx, nd.addr, addr) },
	})
	if err != nil {
		return err
	}
	nd.fsm = newRecord()
	cfg := DefaultConfig()
	cfg.Name, cfg.Dir, cfg.ID, cfg.Advertise = "test", nd.dir, nd.id, nd.addr
	cfg.FSM, cfg.Mux, cfg.Servers = nd.fsm, nd.mux, w.servers
	cfg.Exit = func(err error) { nd.exits <- err }
	cfg.Timings = fastTimings()
	cfg.Disk.Reserve, cfg.Disk.Low = 0, 0
	cfg.Disk.Wrap = func(LogStore) LogStore { return nd.log }
	if testing.Verbose() && os.Getenv("COVEY_LOG") != "" {
		cfg.Logger = zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, TimeFormat: "05.000"}).With().Timestamp().Str("node", string(nd.id)).Logger()
	}
	if w.tune != nil {
		w.tune(&cfg)
	}
	nd.group, err = Open(cfg)
	if err != nil {
		return errors.Join(err, nd.mux.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	g, mux := nd.group, nd.mux
	go func() { ran <- g.Run(ctx) }() // nd.stop waits for it
	nd.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ran, g.Close(), mux.Close()); err != nil {
			w.t.Errorf("stop %s: %v", nd.id, err)
		}
	})
	return nil
}

// kill stops the node without telling anybody.
func (nd *node) kill() {
	if nd.stop != nil {
		nd.stop()
	}
}

func (w *world) dial(ctx context.Context, from, to string) (net.Conn, error) {
	w.mu.Lock()
	broken := w.cut[[2]string{from, to}]
	w.mu.Unlock()
	if broken {
		<-ctx.Done() // packets vanish
		return nil, ctx.Err()
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	l := &link{Conn: c, w: w, ends: [2]string{from, to}}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut[l.ends] {
		_ = c.Close()
		return nil, errors.New("link cut")
	}
	w.conns[l] = struct{}{}
	return l, nil
}

// isolate cuts every link of a node; heal restores all links.
func (w *world) isolate(nd *node) {
	w.mu.Lock()
	var broken []*link
	for _, o := range w.nodes {
		if o != nd {
			w.cut[[2]string{nd.addr, o.addr}] = true
			w.cut[[2]string{o.addr, nd.addr}] = true
		}
	}
	for l := range w.conns {
		if w.cut[l.ends] {
			broken = append(broken, l)
		}
	}
	w.mu.Unlock()
	for _, l := range broken {
		_ = l.Close()
	}
}

func (w *world) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cut)
}

// leader waits for a leader that answers a linearizable read.
func (w *world) leader() *node {
	w.t.Helper()
	var found *node
	eventually(w.t, time.Minute, "a leader", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := errors.New("nobody leads")
		for _, nd := range w.nodes {
			if nd.group == nil || !nd.group.IsLeader() {
				continue
			}
			if _, err = nd.group.ReadIndex(ctx); err == nil {
				found = nd
				return nil
			}
		}
		return err
	})
	return found
}

// propose gets an entry committed by whoever leads, as a client with retries does.
func (w *world) propose(data string) Index {
	w.t.Helper()
	var index Index
	eventually(w.t, time.Minute, "a commit", func() error {
		err := errors.New("nobody leads")
		for _, nd := range w.nodes {
			if nd.group == nil || !nd.group.IsLeader() {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			if _, index, err = nd.group.Propose(ctx, []byte(data)); err == nil {
				return nil
			}
		}
		return err
	})
	return index
}

// agree waits until the given nodes have the same state.
func (w *world) agree(nodes ...*node) {
	w.t.Helper()
	eventually(w.t, time.Minute, "the same state everywhere", func() error {
		first := nodes[0].fsm.read()
		for _, nd := range nodes[1:] {
			if s := nd.fsm.read(); s.Hash != first.Hash || s.Count != first.Count {
				return fmt.Errorf("%s has %d entries, %s has %d", nodes[0].id, first.Count, nd.id, s.Count)
			}
		}
		return nil
	})
}

func (w *world) others(not *node) []*node {
	var out []*node
	for _, nd := range w.nodes {
		if nd != not {
			out = append(out, nd)
		}
	}
	return out
}
