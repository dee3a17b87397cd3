package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("node is down")

// cluster is several stores that reach each other by calls.
type cluster struct {
	t  testing.TB
	mu sync.Mutex
	// order is the ring, the same for every digest unless ranked.
	order  []string
	ranked bool
	stores map[string]*Store
	down   map[string]bool
	named  map[Digest]bool
	stale  bool
	// onGet and onPut may fail or change a transfer.
	onGet func(node string, offset int64, buf []byte) error
	onPut func(node string, c *Chunk) error
	gets  map[string]int
	dirs  map[string]string
}

func newCluster(t testing.TB, nodes ...string) *cluster {
	c := &cluster{
		t: t, order: nodes, stores: map[string]*Store{}, down: map[string]bool{},
		named: map[Digest]bool{}, gets: map[string]int{}, dirs: map[string]string{},
	}
	for _, node := range nodes {
		c.dirs[node] = filepath.Join(t.TempDir(), node)
		c.open(node)
	}
	return c
}

func (c *cluster) config(node string) Config {
	cfg := DefaultConfig()
	cfg.Dir, cfg.Self, cfg.Transport = c.dirs[node], node, &wire{c}
	cfg.ChunkSize, cfg.FreeMin, cfg.ScrubRate = 100, 0, 1<<40
	cfg.Owners = func(d Digest) []string {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ranked {
			return Rank(d, c.order)
		}
		return slices.Clone(c.order)
	}
	cfg.Alive = func(node string) bool { return !c.isDown(node) }
	cfg.Referenced = func() (iter.Seq[Digest], error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.stale {
			return nil, errors.New("no contact to the cluster")
		}
		return maps.Keys(maps.Clone(c.named)), nil
	}
	return cfg
}

// open starts a node's store, or starts it again on the same directory.
func (c *cluster) open(node string, change ...func(*Config)) *Store {
	c.t.Helper()
	cfg := c.config(node)
	for _, f := range change {
		f(&cfg)
	}
	if old := c.stores[node]; old != nil {
		old.Close()
	}
	s, err := Open(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(s.Close)
	c.mu.Lock()
	c.stores[node] = s
	c.mu.Unlock()
	return s
}

func (c *cluster) isDown(node string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.down[node]
}

func (c *cluster) setDown(down bool, nodes ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, node := range nodes {
		c.down[node] = down
	}
}

func (c *cluster) name(digests ...Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range digests {
		c.named[d] = true
	}
}

func (c *cluster) unname(d Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.named, d)
}

// holders returns the nodes whose store has d, by node.
func (c *cluster) holders(d Digest) []string {
	var nodes []string
	for node, s := range c.stores {
		if s.present(d) {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// wire is the cluster as a Transport.
type wire struct{ c *cluster }

func (w *wire) to(node string) (*Store, error) {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if w.c.down[node] || w.c.stores[node] == nil {
		return nil, errDown
	}
	return w.c.stores[node], nil
}

func (w *wire) Has(_ context.Context, node string, digests []Digest) ([]bool, error) {
	s, err := w.to(node)
	if err != nil {
		return nil, err
	}
	return s.ServeHas(digests), nil
}

func (w *wire) Get(ctx context.Context, node string, d Digest, offset int64, buf []byte) (int, int64, error) {
	s, err := w.to(node)
	if err != nil {
		return 0, 0, err
	}
	w.c.mu.Lock()
	w.c.gets[node]++
	hook := w.c.onGet
	w.c.mu.Unlock()
	n, size, err := s.ServeGet(ctx, d, offset, buf)
	if err == nil && hook != nil {
		err = hook(node, offset, buf[:n])
	}
	return n, size, err
}

func (w *wire) Put(ctx context.Context, node string, c Chunk) (int64, error) {
	s, err := w.to(node)
	if err != nil {
		return 0, err
	}
	if w.c.onPut != nil {
		if err := w.c.onPut(node, &c); err != nil {
			return 0, err
		}
	}
	c.Data = bytes.Clone(c.Data) // as a wire would
	return s.ServePut(ctx, c)
}

// content makes bytes that differ from seed to seed.
func content(seed uint64, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func mustPut(t testing.TB, s *Store, data []byte) Digest {
	t.Helper()
	d, size, err := s.Put(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if d != Sum(data) || size != int64(len(data)) {
		t.Fatalf("put %d bytes as %s, %d", len(data), d, size)
	}
	return d
}

func mustRead(t testing.TB, s *Store, d Digest, want []byte) {
	t.Helper()
	f, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	got, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes (%v), want %d others", len(got), err, len(want))
	}
}

// rot changes one byte of a node's copy behind the store's back.
func (c *cluster) rot(node string, d Digest) {
	c.t.Helper()
	path := c.stores[node].path(d)
	data, err := os.ReadFile(path)
	if err == nil {
		data[len(data)/2] ^= 1
		err = errors.Join(os.Remove(path), os.WriteFile(path, data, 0o555))
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// staged returns the files left in a node's staging directory.
func (c *cluster) staged(node string) int {
	files, err := os.ReadDir(filepath.Join(c.dirs[node], stagingDir))
	if err != nil {
		c.t.Fatal(err)
	}
	return len(files)
}
