package blob

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestConfigReportsEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := Open(Config{FreeMin: -1})
	for _, field := range []string{"Dir", "Self", "Transport", "Owners", "Alive", "Referenced", "ChunkSize", "FreeMin", "GCAfter"} {
		if err == nil || !strings.Contains(err.Error(), field+":") {
			t.Errorf("%s is not reported in: %v", field, err)
		}
	}
}

func TestWhatWasPutCanBeRead(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a")
	for _, size := range []int{0, 1, 99, 100, 101, 1 << 20} {
		data := content(uint64(size), size)
		d := mustPut(t, c.stores["a"], data)
		mustRead(t, c.stores["a"], d, data)
		mustPut(t, c.stores["a"], data) // again is fine
		mustRead(t, c.stores["a"], d, data)
	}
	if n := c.staged("a"); n != 0 {
		t.Errorf("%d staging files are left", n)
	}
}

func TestDescriptorsAreReadOnlyAndIndependent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a")
	data := content(1, 1000)
	d := mustPut(t, c.stores["a"], data)
	first, err := c.stores["a"].Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	if _, err := io.ReadFull(first, make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	mustRead(t, c.stores["a"], d, data)
	if _, err := first.Write([]byte("x")); err == nil {
		t.Error("the descriptor can be written to")
	}
	info, err := first.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != blobMode {
		t.Errorf("mode is %v, want %o", info.Mode(), blobMode)
	}
	c.stores["a"].Close()
	if rest, err := io.ReadAll(first); err != nil || !bytes.Equal(rest, data[500:]) {
		t.Errorf("after Close the descriptor gives %d bytes, %v", len(rest), err)
	}
}

func TestAnotherUserCanExecuteByDescriptor(t *testing.T) {
	t.Parallel()
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, "a", "b")
	d := mustPut(t, c.stores["a"], program)
	// The second store got it from the first, so both ways of writing are executed.
	for _, node := range []string{"a", "b"} {
		for range 20 { // ETXTBSY would come from a fork at the wrong moment
			f, err := c.stores[node].Open(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("/proc/self/fd/3")
			cmd.ExtraFiles = []*os.File{f}
			if os.Getuid() == 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			}
			if err := cmd.Run(); err != nil {
				t.Fatalf("execute by descriptor: %v", err)
			}
			_ = f.Close()
		}
	}
}

func TestStoreSurvivesARestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a")
	data := content(2, 5000)
	d := mustPut(t, c.stores["a"], data)
	for _, stray := range []string{"objects/zz/not-a-blob", "staging/stage-123", "objects/00/" + d.hex()} {
		path := filepath.Join(c.dirs["a"], stray)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s := c.open("a")
	mustRead(t, s, d, data)
	if n, size := s.Len(); n != 1 || size != 5000 {
		t.Errorf("%d blobs of %d bytes are indexed", n, size)
	}
	if n := c.staged("a"); n != 0 {
		t.Errorf("%d staging files survived", n)
	}
}

// countingFS counts the files opened for reading.
type countingFS struct {
	Disk
	mu    sync.Mutex
	opens int
}

func (f *countingFS) Open(name string) (*os.File, error) {
	f.mu.Lock()
	f.opens++
	f.mu.Unlock()
	return f.Disk.Open(name)
}

func TestFilesAreVerifiedOncePerLife(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a")
	data := content(3, 1000)
	d := mustPut(t, c.stores["a"], data)
	fs := &countingFS{}
	s := c.open("a", func(cfg *Config) { cfg.FS = fs })
	for range 10 {
		mustRead(t, s, d, data)
	}
	if fs.opens != 1 {
		t.Errorf("the file was opened %d times for 10 uses", fs.opens)
	}
}

func TestOpenDescriptorsAreBounded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a")
	s := c.open("a", func(cfg *Config) { cfg.OpenMax = 3 })
	var digests []Digest
	for i := range 10 {
		digests = append(digests, mustPut(t, s, content(uint64(i), 200)))
	}
	for range 3 {
		for i, d := range digests {
			mustRead(t, s, d, content(uint64(i), 200))
			if n := s.handles.Len(); n > 3 {
				t.Fatalf("%d descriptors are kept open", n)
			}
		}
	}
}

func TestFileChangedWhileNotKeptOpenIsVerifiedAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b")
	s := c.open("a", func(cfg *Config) { cfg.OpenMax = 1 })
	data := content(4, 300)
	d := mustPut(t, s, data)
	mustPut(t, s, content(5, 300)) // pushes the first out of the cache
	c.rot("a", d)
	mustRead(t, s, d, data) // from b
	if got := c.gets["b"]; got == 0 {
		t.Error("the rotten copy was not replaced")
	}
}

func TestClosedStoreSaysSo(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a")
	s := c.stores["a"]
	d := mustPut(t, s, content(6, 10))
	s.Close()
	s.Close()
	if _, err := s.Open(t.Context(), d); !errors.Is(err, ErrClosed) {
		t.Errorf("Open: %v", err)
	}
	if _, err := s.ServePut(t.Context(), Chunk{Digest: Sum([]byte("x")), Size: 1, Data: []byte("x")}); !errors.Is(err, ErrClosed) {
		t.Errorf("ServePut: %v", err)
	}
}

func TestMetricsAreExported(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a")
	reg := prometheus.NewRegistry()
	s := c.open("a", func(cfg *Config) { cfg.Registerer = reg })
	mustPut(t, s, content(7, 64))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		got[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	if got["covey_blob_puts_total"] != 1 || got["covey_blob_bytes"] != 64 || got["covey_blob_count"] != 1 {
		t.Errorf("got %v", got)
	}
}

func FuzzParseDigest(f *testing.F) {
	f.Add(Sum(nil).String())
	f.Add("sha256:../../../etc/passwd")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDigest(text)
		if err == nil && d.String() != text {
			t.Fatalf("%q and %q name one blob", text, d)
		}
		if err != nil && !errors.Is(err, ErrBadDigest) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestRankIsTheSameEverywhereAndMovesLittle(t *testing.T) {
	t.Parallel()
	nodes := []string{"a", "b", "c", "d", "e", "f"}
	first := map[string]int{}
	for i := range 1000 {
		d := Sum(content(uint64(i), 8))
		order := Rank(d, nodes)
		first[order[0]]++
		if again := Rank(d, []string{"f", "d", "b", "e", "c", "a"}); strings.Join(order, "") != strings.Join(again, "") {
			t.Fatalf("the order depends on the input's: %v, %v", order, again)
		}
		if without := Rank(d, nodes[:5]); order[0] != "f" && without[0] != order[0] {
			t.Fatalf("a node that left moved %s from %s to %s", d, order[0], without[0])
		}
	}
	for node, n := range first {
		if n < 100 || n > 250 {
			t.Errorf("%s owns %d of 1000 first", node, n)
		}
	}
}
