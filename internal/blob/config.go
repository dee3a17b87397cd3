package blob

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// ChunkMax bounds the bytes of one chunk on the wire.
const ChunkMax = 4 << 20

const (
	// ownerCount is how many nodes hold each blob once repair has had its turn.
	ownerCount = 3
	// durableCount is how many of them Put waits for: one may die at once.
	durableCount = 2
)

// Chunk is a piece of a blob on its way to another node. Offset+len(Data) never
// passes Size. An empty blob travels as one chunk without data.
type Chunk struct {
	Digest Digest
	Size   int64
	Offset int64
	Data   []byte
}

// Transport reaches the same store on other nodes. Each method ends with ctx,
// and returns this package's sentinel errors for what the other side refused.
type Transport interface {
	// Has tells for each digest whether node holds it.
	Has(ctx context.Context, node string, digests []Digest) ([]bool, error)
	// Get reads up to len(buf) bytes of d at offset, and tells the blob's size.
	Get(ctx context.Context, node string, d Digest, offset int64, buf []byte) (n int, size int64, err error)
	// Put hands over one chunk and returns the offset that node wants next, which
	// is the blob's size once the whole blob is durable there.
	Put(ctx context.Context, node string, c Chunk) (next int64, err error)
}

// Config is what a Store needs. DefaultConfig fills in everything but the
// required fields.
type Config struct {
	// Dir is the store's own directory, made with 0700 when absent. Required.
	Dir string

	// Self is this node's id as Owners gives it. Required.
	Self string

	// Transport reaches the other nodes. Required.
	Transport Transport

	// Owners returns every member node in the order in which they own d; the first
	// three are its owners. It must not block. See Rank. Required.
	Owners func(d Digest) []string

	// Alive tells whether a node is thought to be up. It chooses whom to ask first
	// and starts the silence clock; a wrong answer costs time, not data. Required.
	Alive func(node string) bool

	// Referenced yields every digest that the cluster names. It returns an error
	// while the answer may be stale (no contact to the cluster, applying stopped);
	// then nothing is deleted. Required.
	Referenced func() (iter.Seq[Digest], error)

	// Logger receives state changes: quarantine, healing, deletion.
	Logger zerolog.Logger

	// Registerer receives the metrics; nil exports none.
	Registerer prometheus.Registerer

	// FS is the disk; nil means the real one. Tests inject faults here.
	FS FS

	// ChunkSize is the size of the pieces sent, at most ChunkMax. Default 1 MiB.
	// Smaller costs round trips, larger costs memory per transfer.
	ChunkSize int

	// ChunkTimeout bounds one chunk's round trip. Default 20 s. Too low and slow
	// links never finish; too high and a hung node holds a deploy that long.
	ChunkTimeout time.Duration

	// SizeMax bounds one blob. Default 4 GiB.
	SizeMax int64

	// FreeMin is the free disk space that blobs leave to others, above all to the
	// Raft log. Default 64 MiB; 0 lets blobs fill the disk.
	FreeMin int64

	// OpenMax bounds the descriptors kept open. Default 256. Too low only costs an
	// open per use.
	OpenMax int

	// SilentAfter is how long an owner is away before another takes its place.
	// Default 10 min. Lower copies code around on every reboot.
	SilentAfter time.Duration

	// RepairEvery is the pause between looks at what this node should own. Default
	// one minute.
	RepairEvery time.Duration

	// GCAfter is how long a blob that nothing names is kept. Default 24 h. It must
	// exceed the time between a Put and the command that names its digest.
	GCAfter time.Duration

	// ScrubEvery is the pause between scrubs. Default 24 h.
	ScrubEvery time.Duration

	// ScrubRate bounds what a scrub reads in bytes per second. Default 16 MiB.
	ScrubRate int64
}

// DefaultConfig returns the defaults; the required fields are still empty.
func DefaultConfig() Config {
	return Config{
		Logger:       zerolog.Nop(),
		ChunkSize:    1 << 20,
		ChunkTimeout: 20 * time.Second,
		SizeMax:      4 << 30,
		FreeMin:      64 << 20,
		OpenMax:      256,
		SilentAfter:  10 * time.Minute,
		RepairEvery:  time.Minute,
		GCAfter:      24 * time.Hour,
		ScrubEvery:   24 * time.Hour,
		ScrubRate:    16 << 20,
	}
}

// Validate reports every field that is missing or out of range.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Dir != "", "Dir: empty")
	check(c.Self != "", "Self: empty")
	check(c.Transport != nil, "Transport: missing")
	check(c.Owners != nil, "Owners: missing")
	check(c.Alive != nil, "Alive: missing")
	check(c.Referenced != nil, "Referenced: missing")
	check(c.ChunkSize > 0 && c.ChunkSize <= ChunkMax, "ChunkSize: %d is not in 1..%d", c.ChunkSize, ChunkMax)
	check(c.SizeMax > 0, "SizeMax: %d is not positive", c.SizeMax)
	check(c.FreeMin >= 0, "FreeMin: %d is negative", c.FreeMin)
	check(c.OpenMax > 0, "OpenMax: %d is not positive", c.OpenMax)
	check(c.ScrubRate > 0, "ScrubRate: %d is not positive", c.ScrubRate)
	for name, d := range map[string]time.Duration{
		"ChunkTimeout": c.ChunkTimeout, "SilentAfter": c.SilentAfter, "RepairEvery": c.RepairEvery,
		"GCAfter": c.GCAfter, "ScrubEvery": c.ScrubEvery,
	} {
		check(d > 0, "%s: %v is not positive", name, d)
	}
	return errors.Join(errs...)
}
