package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/rs/zerolog"
)

// Config says where a Sandbox keeps its things. Start from DefaultConfig.
type Config struct {
	// DataDir is the daemon's data directory: the one place that instances must
	// never see. It also identifies the daemon: New ends what an earlier daemon
	// of the same directory left behind. Required, absolute.
	DataDir string

	// RunDir holds the instances' private directories. Empty means a fresh
	// directory in /dev/shm where instances have memory cgroups, to which what they
	// write there is charged; else DataDir/run; else, where that would make Unix
	// socket paths too long or unreachable, one below os.TempDir. Nothing but the
	// file system's size bounds what functions write to a RunDir on a disk.
	RunDir string

	// CgroupParent is the cgroup, relative to the mount point of each hierarchy,
	// below which the instances' cgroups are made. Empty means the daemon's own
	// cgroup, so that limits set on the daemon's service hold for its functions.
	CgroupParent string

	// UIDBase and UIDCount are the range of user ids for instances when the
	// daemon is root; default 620000 and 60000. One id serves one instance at a
	// time. Too small a range refuses starts (ErrNoUID); a range that overlaps
	// real users lets functions read those users' files.
	UIDBase, UIDCount uint32

	// Links are symbolic links in every instance's root directory, as pairs of target
	// and absolute place. A target that an instance does not see leads nowhere.
	// Sandboxes without a root directory of their own have none.
	Links [][2]string

	// Logger receives the detected features once, and cleanup that went wrong.
	Logger zerolog.Logger
}

// DefaultConfig returns the defaults; DataDir is left for the caller.
func DefaultConfig() Config {
	return Config{UIDBase: 620000, UIDCount: 60000, Logger: zerolog.Nop()}
}

// Validate reports everything that is wrong with the configuration at once.
func (c Config) Validate() error {
	var errs []error
	if !filepath.IsAbs(c.DataDir) {
		errs = append(errs, fmt.Errorf("DataDir %q is not an absolute path", c.DataDir))
	}
	if c.RunDir != "" && !filepath.IsAbs(c.RunDir) {
		errs = append(errs, fmt.Errorf("RunDir %q is not an absolute path", c.RunDir))
	}
	if c.UIDBase < 1000 {
		errs = append(errs, fmt.Errorf("UIDBase %d is below 1000, where system users live", c.UIDBase))
	}
	if c.UIDCount == 0 || uint64(c.UIDBase)+uint64(c.UIDCount) >= 1<<32-1 {
		errs = append(errs, fmt.Errorf("UIDCount %d does not give a range of user ids", c.UIDCount))
	}
	return errors.Join(errs...)
}
