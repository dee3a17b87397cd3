package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
)

// books are all executions that a test knows of, from two witnesses. The ledgers
// of the instances are opened soon after they are made and stay open: a file can
// be read after its instance, its directory and its node have gone. The functions'
// logs have those of an instance that began and ended between two looks.
type books struct {
	t    testing.TB
	stop context.CancelFunc
	done sync.WaitGroup

	mu         sync.Mutex
	ledgers    map[inode]*os.File  // guarded by mu
	executions map[string]*booking // guarded by mu; by name
}

// booking is an execution and who has seen it.
type booking struct {
	ledger.Execution
	inLedger, inLog bool
}

// inode names a file whatever its path. It is not used again while it is open.
type inode struct{ dev, number uint64 }

// lookEvery is the time between two looks for new ledgers: less than the shortest
// call of a load takes.
const lookEvery = 20 * time.Millisecond

// openBooks keeps the books of the nodes until the test ends.
func openBooks(t testing.TB, nodes ...*node) *books {
	ctx, cancel := context.WithCancel(context.Background())
	b := &books{t: t, stop: cancel, ledgers: map[inode]*os.File{}, executions: map[string]*booking{}}
	for _, n := range nodes {
		b.done.Go(func() {
			tick := time.NewTicker(lookEvery)
			defer tick.Stop()
			for ctx.Err() == nil {
				b.look(n)
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	t.Cleanup(b.close)
	return b
}

func (b *books) close() {
	b.stop()
	b.done.Wait()
	for _, f := range b.ledgers {
		_ = f.Close() // only read
	}
}

// instanceDirs are the private directories of instances that opened a ledger, of
// a daemon that runs or was killed. One that just starts or stops has none.
func (n *node) instanceDirs() []string {
	text, err := os.ReadFile(filepath.Join(n.dir, "sandbox.json"))
	if err != nil {
		return nil
	}
	var left struct {
		RunDir string `json:"run_dir"`
	}
	if err := json.Unmarshal(text, &left); err != nil || left.RunDir == "" {
		n.t.Errorf("find the instances of %s in %q: %v", n.name, text, err)
		return nil
	}
	files, err := filepath.Glob(filepath.Join(left.RunDir, "*", ledger.File))
	if err != nil {
		n.t.Error(err)
	}
	dirs := make([]string, len(files))
	for i, f := range files {
		dirs[i] = filepath.Dir(f)
	}
	return dirs
}

// release lets all calls with OpHold on a node go on.
func (n *node) release() {
	n.t.Helper()
	for _, dir := range n.instanceDirs() {
		if err := os.WriteFile(filepath.Join(dir, ledger.ReleaseFile), nil, 0o644); err != nil {
			n.t.Error(err)
		}
	}
}

// look opens the ledgers of a node's instances that are not open yet.
func (b *books) look(n *node) {
	for _, dir := range n.instanceDirs() {
		path := filepath.Join(dir, ledger.File)
		name, err := inodeOf(os.Stat(path))
		if err == nil && b.has(name) {
			continue
		}
		var f *os.File
		if err == nil {
			f, err = os.Open(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // it ended in order this moment, so its log is complete
		}
		if err == nil {
			name, err = inodeOf(f.Stat()) // the slot may have changed hands
		}
		if err != nil {
			b.t.Errorf("open ledger: %v", err)
			continue
		}
		b.mu.Lock()
		if _, open := b.ledgers[name]; open {
			_ = f.Close()
		} else {
			b.ledgers[name] = f
		}
		b.mu.Unlock()
	}
}

func (b *books) has(name inode) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.ledgers[name]
	return ok
}

func inodeOf(info os.FileInfo, err error) (inode, error) {
	if err != nil {
		return inode{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, errors.ErrUnsupported
	}
	return inode{uint64(st.Dev), st.Ino}, nil
}

// killKeeping kills a node after a last look at its instances, for which it stops
// the daemon, so that none begins after the look: once the daemon is dead, any
// other daemon of this machine removes what it left.
func (b *books) killKeeping(n *node) {
	b.t.Helper()
	n.pause()
	b.look(n)
	n.kill()
}

// read takes over what the ledgers of the given nodes' instances have, and of all
// those that were opened before.
func (b *books) read(nodes ...*node) {
	b.t.Helper()
	for _, n := range nodes {
		b.look(n)
	}
	b.mu.Lock()
	files := make([]*os.File, 0, len(b.ledgers))
	for _, f := range b.ledgers {
		files = append(files, f)
	}
	b.mu.Unlock()
	for _, f := range files {
		info, err := f.Stat()
		if err != nil {
			b.t.Errorf("read ledger: %v", err)
			continue
		}
		text := make([]byte, info.Size())
		if _, err := f.ReadAt(text, 0); err != nil && !errors.Is(err, io.EOF) {
			b.t.Errorf("read ledger: %v", err)
		}
		for line := range bytes.Lines(text) {
			// Half a line is an instance that died while it wrote, before it did more.
			if bytes.HasSuffix(line, []byte("\n")) {
				b.book(line, func(k *booking) { k.inLedger = true })
			}
		}
	}
}

// readLogs takes over what the functions logged on all nodes, which must be there
// to tell.
func (b *books) readLogs(cl *client.Client, functions ...string) {
	b.t.Helper()
	for _, f := range functions {
		await(b.t, time.Minute, "log of "+f+" is whole", func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			for line, err := range cl.Logs(ctx, wire.LogQuery{App: "default", Function: f}) {
				if err != nil {
					return err
				}
				if line.Stream == "platform" && strings.Contains(line.Text, "may be missing") {
					return errors.New(line.Text)
				}
				if text, ok := strings.CutPrefix(line.Text, ledger.LinePrefix); ok {
					b.book([]byte(text), func(k *booking) { k.inLog = true })
				}
			}
			return ctx.Err()
		})
	}
}

// book enters what one witness says; saw notes which.
func (b *books) book(text []byte, saw func(*booking)) {
	b.t.Helper()
	k := &booking{}
	if err := json.Unmarshal(text, &k.Execution); err != nil {
		b.t.Errorf("ledger has %q: %v", text, err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if known := b.executions[k.Name()]; known != nil {
		k = known
	}
	b.executions[k.Name()] = k
	saw(k)
}

// byRequest returns the executions of each request.
func (b *books) byRequest() map[string][]ledger.Execution {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string][]ledger.Execution{}
	for _, e := range b.executions {
		all[e.RequestID] = append(all[e.RequestID], e.Execution)
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b ledger.Execution) int { return a.Began.Compare(b.Began) })
	}
	return all
}

// about says what the witnesses have of an instance.
func (b *books) about(instance string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var node string
	var inLedger, inLog int
	for _, k := range b.executions {
		if k.Instance != instance {
			continue
		}
		node = k.Node
		if k.inLedger {
			inLedger++
		}
		if k.inLog {
			inLog++
		}
	}
	return fmt.Sprintf("of %d ledgers, that of instance %q on node %q has %d executions, and the log has %d", len(b.ledgers), instance, node, inLedger, inLog)
}

// TestBooksOutliveTheirInstances removes ledgers and replaces one in its place.
func TestBooksOutliveTheirInstances(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	n := &node{t: t, name: "n", dir: filepath.Join(root, "data")}
	write := func(path, text string) {
		t.Helper()
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	runDir := filepath.Join(root, "run")
	write(filepath.Join(n.dir, "sandbox.json"), fmt.Sprintf(`{"run_dir":%q}`, runDir))
	line := func(instance string) string {
		return fmt.Sprintf(`{"instance":%q,"number":1,"request_id":%q}`+"\n", instance, "id-"+instance)
	}
	b := openBooks(t)
	for _, instance := range []string{"first", "second", "third"} {
		slot := filepath.Join(runDir, "1")
		write(filepath.Join(slot, ledger.File), line(instance)+`{"half of a li`)
		b.look(n)
		b.look(n)
		if err := os.RemoveAll(slot); err != nil {
			t.Fatal(err)
		}
	}
	b.read(n)
	got := b.byRequest()
	if len(got) != 3 || len(got["id-second"]) != 1 || len(b.ledgers) != 3 {
		t.Errorf("%d ledgers have %+v", len(b.ledgers), got)
	}
	if about := b.about("second"); !strings.Contains(about, "has 1 executions, and the log has 0") {
		t.Error(about)
	}
}
