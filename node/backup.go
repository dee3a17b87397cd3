package node

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/internal/blob"
)

// A backup is a tar: the state, then each blob that it names, then a last entry
// without which the file was cut.
const (
	backupState = "state"
	backupBlobs = "blobs/"
	backupEnd   = "end"
)

// ErrIncompleteBackup says that a backup was cut off: what was read of it must
// not be used.
var ErrIncompleteBackup = errors.New("backup is incomplete")

// backup writes the state at one index and the code that it names.
func (n *Node) backup(ctx context.Context, w io.Writer) error {
	scratch, err := os.CreateTemp(n.cfg.DataDir, "backup-*")
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	defer func() { _ = errors.Join(scratch.Close(), os.Remove(scratch.Name())) }()
	view, err := n.cluster.Backup(ctx, scratch)
	if err != nil {
		return controlError(err)
	}
	out := tar.NewWriter(w)
	if err := addFile(out, backupState, scratch); err != nil {
		return err
	}
	done := map[string]bool{}
	for digest := range view.Digests() {
		if done[digest] {
			continue
		}
		done[digest] = true
		code, err := codeStore{n.blobs}.open(ctx, digest)
		if err != nil {
			return fmt.Errorf("back up code %s: %w", digest, err)
		}
		err = addFile(out, backupBlobs+digest, code)
		if err := errors.Join(err, code.Close()); err != nil {
			return err
		}
	}
	if err := out.WriteHeader(&tar.Header{Name: backupEnd, Mode: 0o600}); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return out.Close()
}

// addFile writes the whole of a file as one entry.
func addFile(out *tar.Writer, name string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("back up %s: %w", name, err)
	}
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: info.Size()}); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	if _, err := io.Copy(out, io.NewSectionReader(f, 0, info.Size())); err != nil {
		return fmt.Errorf("back up %s: %w", name, err)
	}
	return nil
}

// Restored tells what came of a backup.
type Restored struct {
	// AdminToken is that of the new cluster.
	AdminToken string
	// LostKeys are the access keys that were left out: what opens their secrets is
	// in no backup. Their holders need new ones.
	LostKeys []*state.Token
}

// Restore makes cfg.DataDir the first node of a new cluster that begins with a
// backup's functions, tokens and usage. Node and cluster get new ids. An error
// leaves a folder that must be deleted before the next attempt.
func Restore(ctx context.Context, cfg Config, r io.Reader) (*Restored, error) {
	ccfg := cluster.DefaultConfig()
	ccfg.DataDir, ccfg.Name, ccfg.Logger = cfg.DataDir, cfg.Name, cfg.Logger
	ccfg.Peer = cluster.Endpoint{Bind: cfg.Peer, Advertise: cfg.Advertise}
	ccfg.Gossip = cluster.Endpoint{Bind: cfg.Gossip, Advertise: cfg.Advertise}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	in := tar.NewReader(r)
	head, err := in.Next()
	if err != nil || head.Name != backupState {
		return nil, fmt.Errorf("restore: this is not a backup: %w", errors.Join(ErrIncompleteBackup, err))
	}
	// The code is stored before the state that names it: an interrupted restore
	// leaves no cluster behind.
	scratch, err := os.CreateTemp(cfg.DataDir, "restore-*")
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer func() { _ = errors.Join(scratch.Close(), os.Remove(scratch.Name())) }()
	if _, err := io.Copy(scratch, in); err != nil {
		return nil, fmt.Errorf("restore state: %w", err)
	}
	if err := restoreBlobs(ctx, cfg, in); err != nil {
		return nil, err
	}
	if _, err := scratch.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("restore state: %w", err)
	}
	if ccfg.AdminToken, err = adminTokenFor(cfg.DataDir); err != nil {
		return nil, err
	}
	result, err := cluster.Restore(ctx, ccfg, scratch)
	if err != nil {
		return nil, err
	}
	return &Restored{AdminToken: ccfg.AdminToken, LostKeys: result.LostKeys}, nil
}

// restoreBlobs stores every blob of a backup and wants its last entry.
func restoreBlobs(ctx context.Context, cfg Config, in *tar.Reader) error {
	const self = "restore"
	bcfg := blob.DefaultConfig()
	bcfg.Dir, bcfg.Self, bcfg.Logger, bcfg.Transport = filepath.Join(cfg.DataDir, blobDir), self, cfg.Logger, &blobTransport{}
	bcfg.Owners = func(blob.Digest) []string { return []string{self} }
	bcfg.Alive = func(string) bool { return true }
	bcfg.Referenced = func() (iter.Seq[blob.Digest], error) { return nil, errBehind }
	store, err := blob.Open(bcfg)
	if err != nil {
		return fmt.Errorf("restore code: %w", err)
	}
	defer store.Close()
	for {
		head, err := in.Next()
		if err != nil {
			return fmt.Errorf("restore code: %w", errors.Join(ErrIncompleteBackup, err))
		}
		if head.Name == backupEnd {
			return nil
		}
		want, ok := strings.CutPrefix(head.Name, backupBlobs)
		if !ok {
			return fmt.Errorf("restore code: unknown entry %q: %w", head.Name, ErrIncompleteBackup)
		}
		got, _, err := store.Put(ctx, in)
		if err != nil {
			return fmt.Errorf("restore code %s: %w", want, err)
		}
		if d, err := blob.ParseDigest(want); err != nil || d != got {
			return fmt.Errorf("restore code %s: %w", want, blob.ErrMismatch)
		}
	}
}

// Recover makes this node the only voter of its cluster, for when the other
// voters are lost for good; see cluster.Recover. The daemon must be stopped.
func Recover(ctx context.Context, cfg Config, dryRun bool) (*cluster.RecoverReport, error) {
	ccfg := cluster.DefaultConfig()
	ccfg.DataDir, ccfg.Name, ccfg.Logger = cfg.DataDir, cfg.Name, cfg.Logger
	ccfg.Peer = cluster.Endpoint{Bind: cfg.Peer, Advertise: cfg.Advertise}
	ccfg.Gossip = cluster.Endpoint{Bind: cfg.Gossip, Advertise: cfg.Advertise}
	ctx, cancel := context.WithTimeout(ctx, recoverTimeout)
	defer cancel()
	return cluster.Recover(ctx, ccfg, dryRun)
}

// recoverTimeout bounds the replay of the log; a log of a gigabyte takes a minute.
const recoverTimeout = 10 * time.Minute
