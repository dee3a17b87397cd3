package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
)

// TestR5FullDiskRefusesChangesAndHeals is row R5: with a full disk functions go on
// and changes are refused with 507; once there is space again, changes work
// without a restart.
func TestR5FullDiskRefusesChangesAndHeals(t *testing.T) {
	needRoot(t)
	t.Parallel()
	n := newNode(t, "node-1")
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", n.dir, "tmpfs", 0, "mode=700,size=320m"); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() { // after the daemon has ended, before the folder is deleted
		if n.running() != nil {
			n.kill()
		}
		// The instances' views of the file system end a moment after the daemon.
		await(t, 10*time.Second, "unmount the small disk", func() error { return syscall.Unmount(n.dir, 0) })
	})
	n.start("--init")
	c := &cluster{t: t, nodes: []*node{n}, token: adminToken(t, n)}
	c.deploy("noted", wire.FunctionSpec{})
	cl := c.once()
	mustCall(t, cl, "noted", ledger.Order{Op: ledger.OpNote}, nil)

	filler := filepath.Join(n.dir, "filler")
	fill(t, filler)
	refused := func(want bool) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := cl.PutAlias(ctx, "default", "noted", "probe", wire.AliasChange{Version: 1}, 0)
		p := problem(err)
		switch {
		case want && err == nil:
			return errors.New("a change was accepted on a full disk")
		case want && (p == nil || p.Status != http.StatusInsufficientStorage):
			return fmt.Errorf("a change on a full disk: %w", err)
		case want:
			return nil
		}
		return err
	}
	await(t, 20*time.Second, "changes are refused", func() error { return refused(true) })
	_, err := cl.Upload(t.Context(), func() (io.ReadCloser, error) { return os.Open(coveyBin) }, size(t, coveyBin))
	if p := problem(err); p == nil || p.Status != http.StatusInsufficientStorage {
		t.Errorf("an upload on a full disk: %v", err)
	}
	for range 10 {
		mustCall(t, cl, "noted", ledger.Order{Op: ledger.OpNote}, nil)
	}
	if s, err := c.status(n); err != nil || !s.Quorum {
		t.Errorf("status on a full disk: %+v, %v", s, err)
	}
	pid := n.pid()
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	await(t, 30*time.Second, "changes are taken again", func() error { return refused(false) })
	if n.pid() != pid || n.running() == nil {
		t.Error("the node was restarted")
	}
	c.deploy("noted", wire.FunctionSpec{})
	// Nothing that was half-written is in the way of a restart.
	n.kill()
	n.start()
	mustCall(t, cl, "noted", ledger.Order{Op: ledger.OpNote}, nil)
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
