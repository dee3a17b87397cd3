package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/cluster/trust"
)

// dirFormat is the layout of a data directory; a greater one is refused.
const dirFormat = 1

// The files of the cluster's part of a data directory.
const (
	lockFile     = "lock"
	identityFile = "node.json"
	bootFile     = "boot"
	peersFile    = "peers.json"
	foundingFile = "founding"
	epochFile    = "epoch"
	keysDir      = "keys"
	raftDir      = "raft/control"
	copyDir      = "state"
)

// dataDir is a locked data directory.
type dataDir struct {
	path string
	lock *os.File
}

// identity is who the node is; it is written once, before anything else is
// said to anybody.
type identity struct {
	Format  int             `json:"format"`
	ID      state.NodeID    `json:"id"`
	Cluster state.ClusterID `json:"cluster"`
	Created time.Time       `json:"created"`
}

// openDataDir locks a data directory, which it makes if need be.
func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	if err := takeLock(lock); err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", path, errors.Join(err, lock.Close()))
	}
	return &dataDir{path: path, lock: lock}, nil
}

// lockPatience is how long a lock may be held by somebody who is about to let go: a
// daemon that is ending, or a child between its fork and its exec, which has copies
// of all descriptors.
const lockPatience = time.Second

// takeLock waits for the lock, which the kernel frees when its holder ends, however
// it ends.
func takeLock(lock *os.File) error {
	deadline := time.Now().Add(lockPatience)
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return os.NewSyscallError("flock", err)
		case time.Now().After(deadline):
			return ErrLocked
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Close frees the lock. It is idempotent.
func (d *dataDir) Close() error {
	if err := d.lock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close data directory: %w", err)
	}
	return nil
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// identity reads who the node is; ErrNotFounded if it is nobody yet.
func (d *dataDir) identity() (identity, error) {
	data, err := os.ReadFile(d.file(identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return identity{}, fmt.Errorf("read %s: %w", d.path, ErrNotFounded)
	}
	if err != nil {
		return identity{}, fmt.Errorf("read identity: %w", err)
	}
	var id identity
	if err := json.Unmarshal(data, &id); err != nil {
		return identity{}, fmt.Errorf("read identity: %w", err)
	}
	if id.Format > dirFormat || id.ID == "" || id.Cluster == "" {
		return identity{}, fmt.Errorf("read identity: %s is of format %d, this release knows %d", d.path, id.Format, dirFormat)
	}
	return id, nil
}

// setIdentity makes the directory a node's. It is the last step of Init and
// Join: without it the directory counts as empty.
func (d *dataDir) setIdentity(id identity) error {
	id.Format = dirFormat
	data, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return trust.WriteFile(d.file(identityFile), append(data, '\n'))
}

// nextBoot counts and returns the starts of this node.
func (d *dataDir) nextBoot() (uint64, error) {
	boot := uint64(0)
	data, err := os.ReadFile(d.file(bootFile))
	if err == nil {
		boot, err = strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("read boot number: %w", err)
	}
	boot++
	return boot, trust.WriteFile(d.file(bootFile), []byte(strconv.FormatUint(boot, 10)+"\n"))
}

// epoch names the history of the log that this node's state belongs to. It
// changes with an offline recovery only; empty means that none was heard of.
func (d *dataDir) epoch() (string, error) {
	data, err := os.ReadFile(d.file(epochFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read epoch: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func (d *dataDir) setEpoch(epoch string) error {
	return trust.WriteFile(d.file(epochFile), []byte(epoch+"\n"))
}

// founding reports whether the cluster's first commands are still to be
// committed. Only then may this node bootstrap Raft: a node that lost its log
// must never begin a second one.
func (d *dataDir) founding() bool {
	_, err := os.Stat(d.file(foundingFile))
	return err == nil
}

// knownPeer is where a member was last reached. Kept outside the state, for a
// node that has no state yet, and because gossip may know a newer address.
type knownPeer struct {
	ID     state.NodeID `json:"id"`
	Peer   string       `json:"peer"`
	Gossip string       `json:"gossip,omitempty"`
}

// peers reads the persisted peers; a missing or damaged file is no error,
// because the state names the members, too.
func (d *dataDir) peers() []knownPeer {
	data, err := os.ReadFile(d.file(peersFile))
	if err != nil {
		return nil
	}
	var peers []knownPeer
	if err := json.Unmarshal(data, &peers); err != nil {
		return nil
	}
	return peers
}

func (d *dataDir) setPeers(peers []knownPeer) error {
	data, err := json.MarshalIndent(peers, "", "  ")
	if err != nil {
		return fmt.Errorf("write peers: %w", err)
	}
	return trust.WriteFile(d.file(peersFile), append(data, '\n'))
}
