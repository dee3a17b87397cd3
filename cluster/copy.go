package cluster

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/cluster/trust"
)

const (
	copySnapshotFile = "snapshot"
	copyJournalFile  = "journal"
	// copyMagic opens a snapshot file, before the position.
	copyMagic = "COVEYCP1"
	// journalHead is length, CRC-32C and index of one command.
	journalHead = 4 + 4 + 8
	// journalMin is the least size at which the journal becomes a snapshot; with a
	// larger snapshot it waits until it is as large, so each byte of state is
	// rewritten about once.
	journalMin = 1 << 20
	// commandMax bounds what a damaged length can make a reader allocate.
	commandMax = 16 << 20
	// copyRetry is the pause after a failure to write.
	copyRetry = 10 * time.Second
)

// localCopy is the node's own copy of the state on disk: a snapshot and the
// commands after it. Raft's log is no substitute, even on a voter: after a restart
// only a leader can tell which of its entries are committed, and a node must serve
// reads without one.
//
// The copy is a convenience, so its failures are logged and stop nothing. Commands
// are written without fsync, which survives the end of the process; after a power
// cut the copy may be a little older.
//
// All methods are called under the machine's apply lock.
type localCopy struct {
	dir     string
	log     zerolog.Logger
	journal *os.File // Nil while broken.
	size    int64    // Of the journal.
	limit   int64    // Size at which the journal becomes a snapshot.
	retry   time.Time
	closed  bool
	buf     []byte
}

// openCopy loads the copy into an empty store and returns the position it reaches.
// What cannot be read is left out: the node catches up from others.
func openCopy(dir string, store *state.Store, log zerolog.Logger) (*localCopy, state.Index, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, fmt.Errorf("open copy of the state: %w", err)
	}
	c := &localCopy{dir: dir, log: log, limit: journalMin}
	position, err := c.loadSnapshot(store)
	if err != nil {
		log.Warn().Err(err).Msg("copy of the state is unreadable")
		// Without its base the journal means nothing, and the next start must not take
		// a new journal for one on that base.
		if err := c.setAside(); err != nil {
			return nil, 0, fmt.Errorf("open copy of the state: %w", err)
		}
	}
	position, good, err := c.loadJournal(store, position)
	if err != nil {
		log.Warn().Err(err).Msg("journal of the state ends early")
	}
	c.journal, err = os.OpenFile(c.path(copyJournalFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open copy of the state: %w", err)
	}
	// What follows a torn record was never applied here and must not be later.
	if err := errors.Join(c.journal.Truncate(good), seekEnd(c.journal)); err != nil {
		_ = c.journal.Close()
		return nil, 0, fmt.Errorf("open copy of the state: %w", err)
	}
	c.size = good
	return c, position, nil
}

func (c *localCopy) path(name string) string { return filepath.Join(c.dir, name) }

func seekEnd(f *os.File) error {
	_, err := f.Seek(0, io.SeekEnd)
	return err
}

// setAside takes an unreadable copy out of the way; the snapshot stays for whoever
// wants to know.
func (c *localCopy) setAside() error {
	err := os.Rename(c.path(copySnapshotFile), c.path(copySnapshotFile+".unreadable"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(c.path(copyJournalFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// loadSnapshot restores the snapshot, if there is one.
func (c *localCopy) loadSnapshot(store *state.Store) (state.Index, error) {
	f, err := os.Open(c.path(copySnapshotFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var head [len(copyMagic) + 8]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return 0, fmt.Errorf("read head: %w", err)
	}
	if string(head[:len(copyMagic)]) != copyMagic {
		return 0, errors.New("read head: unknown format")
	}
	if err := store.Restore(f); err != nil {
		return 0, err
	}
	if info, err := f.Stat(); err == nil {
		c.limit = max(journalMin, info.Size())
	}
	index := state.Index(binary.LittleEndian.Uint64(head[len(copyMagic):]))
	return max(index, store.View().Index()), nil
}

// loadJournal applies the journal's commands and returns the position reached and
// the size of the journal's good part.
func (c *localCopy) loadJournal(store *state.Store, position state.Index) (state.Index, int64, error) {
	f, err := os.Open(c.path(copyJournalFile))
	if errors.Is(err, fs.ErrNotExist) {
		return position, 0, nil
	}
	if err != nil {
		return position, 0, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for good := int64(0); ; {
		index, data, err := readCommand(r)
		if errors.Is(err, io.EOF) {
			return position, good, nil
		}
		if err != nil {
			return position, good, err
		}
		if index > position {
			if _, err := store.Apply(index, data); err != nil && !errors.Is(err, state.ErrIndex) {
				return position, good, err
			}
			position = index
		}
		good += int64(journalHead + len(data))
	}
}

// readCommand reads one record of the journal; io.EOF only at its clean end.
func readCommand(r io.Reader) (state.Index, []byte, error) {
	var head [journalHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > commandMax {
		return 0, nil, fmt.Errorf("journal record of %d bytes", size)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, nil, fmt.Errorf("journal record is cut: %w", io.ErrUnexpectedEOF)
	}
	sum := crc32.Update(crc32.Checksum(head[8:], castagnoli()), castagnoli(), data)
	if sum != binary.LittleEndian.Uint32(head[4:]) {
		return 0, nil, errors.New("journal record is damaged")
	}
	return state.Index(binary.LittleEndian.Uint64(head[8:])), data, nil
}

// appendCommand appends the record that readCommand reads.
func appendCommand(b []byte, index state.Index, data []byte) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(index))
	b = append(b, data...)
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(b[start+8:], castagnoli()))
	return b
}

// castagnoli is the table of CRC-32C; the standard library builds it once.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// append notes a command that led to view.
func (c *localCopy) append(index state.Index, data []byte, view *state.View) {
	if c.journal == nil || c.size >= c.limit {
		c.rewrite(index, view)
		return
	}
	c.buf = appendCommand(c.buf[:0], index, data)
	n, err := c.journal.Write(c.buf)
	c.size += int64(n)
	if err != nil {
		c.fail(err)
	}
}

// rewrite replaces the copy by a snapshot of view.
func (c *localCopy) rewrite(index state.Index, view *state.View) {
	if c.closed || time.Now().Before(c.retry) {
		return
	}
	var b bytes.Buffer
	b.WriteString(copyMagic)
	b.Write(binary.LittleEndian.AppendUint64(nil, uint64(index)))
	if err := view.Snapshot(&b); err != nil {
		c.fail(err)
		return
	}
	// The old journal goes on meaning the same until the new snapshot is in place:
	// what it repeats is ignored.
	if err := trust.WriteFile(c.path(copySnapshotFile), b.Bytes()); err != nil {
		c.fail(err)
		return
	}
	if err := c.emptyJournal(); err != nil {
		c.fail(err)
		return
	}
	c.limit = max(journalMin, int64(b.Len()))
}

func (c *localCopy) emptyJournal() error {
	if c.journal == nil {
		f, err := os.OpenFile(c.path(copyJournalFile), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		c.journal = f
	}
	c.size = 0
	return errors.Join(c.journal.Truncate(0), seekEnd(c.journal))
}

// fail gives the journal up until a snapshot can be written: a gap in it would
// become a wrong state.
func (c *localCopy) fail(err error) {
	if c.journal != nil {
		c.log.Warn().Err(err).Msg("copy of the state cannot be written")
		_ = c.journal.Close()
		c.journal = nil
	}
	c.retry = time.Now().Add(copyRetry)
}

// Close makes the copy durable and closes it. What is applied after it is not
// written. It is idempotent.
func (c *localCopy) Close() error {
	c.closed = true
	if c.journal == nil {
		return nil
	}
	err := errors.Join(c.journal.Sync(), c.journal.Close())
	c.journal = nil
	if err != nil {
		return fmt.Errorf("close copy of the state: %w", err)
	}
	return nil
}
