package usage

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/internal/clock"
)

const (
	// flushEvery is the stated loss of a crash.
	flushEvery = 10 * time.Second
	// settle is how long after its end an hour is closed: longer than the
	// longest invocation that is counted at its end, so no sample comes late.
	settle = 2 * time.Minute
	// compactAt is the journal's size in bytes that triggers a rewrite.
	compactAt = 4 << 20
)

// Hour is the use of one node in one hour of one boot, complete.
type Hour struct {
	// Boot numbers the daemon's starts; with the node's id and Start it names
	// the hour, so that committing it twice counts once.
	Boot uint64 `json:"boot"`
	// Start is the hour's start in seconds since 1970.
	Start int64 `json:"hour"`
	Rows  []Row `json:"rows"`
}

// Config says what a Journal needs.
type Config struct {
	// Dir is where the journal lies. Required.
	Dir string
	// Boot is greater at every start of the daemon.
	Boot uint64
	// Commit hands a closed hour to the cluster. It must be idempotent by boot
	// and hour, for it is called again after an error and after a crash.
	Commit func(ctx context.Context, h Hour) error
	Clock  clock.Clock
	Logger zerolog.Logger
}

// Journal makes a Meter's counters survive the daemon. One goroutine runs it.
type Journal struct {
	cfg   Config
	meter *Meter
	path  string
	size  int64 // of the file, in bytes; owned by Run

	mu sync.Mutex
	// past are the hours that are not committed yet: those of earlier boots,
	// and those of this one that are closed. Guarded by mu; written by Run only.
	past []Hour
}

// Open reads what earlier boots left behind.
func Open(cfg Config, m *Meter) (*Journal, error) {
	j := &Journal{cfg: cfg, meter: m, path: filepath.Join(cfg.Dir, "usage.journal")}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create usage folder: %w", err)
	}
	past, err := read(j.path)
	if err != nil {
		return nil, fmt.Errorf("read usage journal: %w", err)
	}
	j.past = past
	if err := j.rewrite(); err != nil {
		return nil, err
	}
	return j, nil
}

// read returns the newest state of each hour in the journal. A last line that
// was cut by a crash is left out: it was not acknowledged to anybody.
func read(path string) ([]Hour, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var hours []Hour
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var h Hour
		if json.Unmarshal(lines.Bytes(), &h) != nil {
			continue
		}
		hours = slices.DeleteFunc(hours, func(o Hour) bool { return o.Boot == h.Boot && o.Start == h.Start })
		hours = append(hours, h)
	}
	return hours, lines.Err()
}

// Run flushes and commits until ctx ends, and flushes once more then.
func (j *Journal) Run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return j.flush()
		case <-tick.C:
		}
		err := errors.Join(j.flush(), j.commitClosed(ctx))
		if (err != nil) != failing && ctx.Err() == nil { // log transitions only
			failing = err != nil
			if failing {
				j.cfg.Logger.Warn().Err(err).Msg("usage is kept on this node for now")
			} else {
				j.cfg.Logger.Info().Msg("usage is committed again")
			}
		}
	}
}

// flush appends the open hours' counters to the journal and syncs it.
func (j *Journal) flush() error {
	if j.size > compactAt {
		return j.rewrite()
	}
	hours := j.open()
	if len(hours) == 0 {
		return nil
	}
	f, err := os.OpenFile(j.path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open usage journal: %w", err)
	}
	n, err := write(f, hours)
	j.size += n
	return err
}

// open groups the meter's rows by hour.
func (j *Journal) open() []Hour {
	byHour := map[int64]*Hour{}
	var order []int64
	for _, r := range j.meter.Rows() {
		h := byHour[r.Hour]
		if h == nil {
			h = &Hour{Boot: j.cfg.Boot, Start: r.Hour}
			byHour[r.Hour] = h
			order = append(order, r.Hour)
		}
		h.Rows = append(h.Rows, r)
	}
	slices.Sort(order)
	hours := make([]Hour, len(order))
	for i, start := range order {
		hours[i] = *byHour[start]
	}
	return hours
}

// commitClosed hands every closed hour to the cluster, oldest first, and forgets
// it once it is committed.
func (j *Journal) commitClosed(ctx context.Context) error {
	now := j.cfg.Clock.Now()
	for _, h := range j.open() {
		if now.After(time.Unix(h.Start, 0).Add(time.Hour + settle)) {
			j.close(h)
		}
	}
	committed := false
	for len(j.past) > 0 {
		h := j.past[0]
		if len(h.Rows) > 0 {
			if err := j.cfg.Commit(ctx, h); err != nil {
				return fmt.Errorf("commit usage of hour %d: %w", h.Start, err)
			}
		}
		j.mu.Lock()
		j.past = j.past[1:]
		j.mu.Unlock()
		committed = true
	}
	if !committed {
		return nil
	}
	return j.rewrite()
}

// close moves an hour from the meter to the past, in one step for readers.
func (j *Journal) close(h Hour) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.past = append(j.past, h)
	j.meter.Drop(h.Start)
}

// rewrite replaces the journal by what is still needed.
func (j *Journal) rewrite() error {
	tmp := j.path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open usage journal: %w", err)
	}
	n, err := write(f, slices.Concat(j.past, j.open()))
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, j.path); err != nil {
		return fmt.Errorf("replace usage journal: %w", err)
	}
	j.size = n
	return syncDir(filepath.Dir(j.path))
}

// write appends hours to f, one line each, syncs and closes it.
func write(f *os.File, hours []Hour) (int64, error) {
	w := &counting{f: f}
	enc := json.NewEncoder(w)
	var err error
	for _, h := range hours {
		err = errors.Join(err, enc.Encode(h))
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return w.n, fmt.Errorf("write usage journal: %w", err)
	}
	return w.n, nil
}

type counting struct {
	f *os.File
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.f.Write(p)
	c.n += int64(n)
	return n, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open usage folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// Rows returns what is not committed yet, for one app or, with an empty app, for
// all. Safe for concurrent use.
func (j *Journal) Rows(app string) []Row {
	j.mu.Lock()
	defer j.mu.Unlock()
	rows := j.meter.Rows()
	for _, h := range j.past {
		rows = append(rows, h.Rows...)
	}
	return slices.DeleteFunc(rows, func(r Row) bool { return app != "" && r.App != app })
}
