//go:build linux && (amd64 || arm64)

package sandbox

import (
	"bytes"
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

	"golang.org/x/sys/unix"
)

// Names inside the run directory; slots are named by numbers, without a dot.
const (
	stageFile = ".stage" // the program of stage.go
	rootDir   = ".root"  // an empty directory to build roots on
	noteFile  = ".note"  // a copy of leftoverFile
	lockFile  = ".lock"  // locked while the daemon lives
)

// leftoverFile, in the data directory, says what a daemon that was killed could
// not undo.
const leftoverFile = "sandbox.json"

// markerName is an environment variable by which instances without a pid
// namespace are recognized. A hostile one can shed it, which is why the level of
// such a machine is a low one.
const markerName = "COVEY_SANDBOX"

// mark is the environment variable of a process. A colon ends the daemon's part,
// a slash the slot's, so that no mark is the beginning of another.
func (s *Sandbox) mark(p *Process) string {
	return markerName + "=" + s.id + ":" + filepath.Base(p.berth.dir) + "/"
}

// leftovers is the content of leftoverFile.
type leftovers struct {
	RunDir  string   `json:"run_dir"`
	Cgroups []string `json:"cgroups,omitempty"`
	// Loose says that instances may have outlived the daemon, for want of a pid
	// namespace; OwnUIDs how their processes are found.
	Loose   bool     `json:"loose,omitempty"`
	OwnUIDs []uint32 `json:"own_uids,omitempty"`
}

// sharedMemory is where every Linux has a file system in memory.
const sharedMemory = "/dev/shm"

// makeRunDir makes the directory of the private directories, in memory where the
// instances' memory is limited: what a function writes there is charged to its own
// limit, so it can fill neither the disk under the daemon's log nor the memory.
func (s *Sandbox) makeRunDir(stage []byte) error {
	dir, temp := filepath.Join(s.cfg.DataDir, "run"), ""
	// A Unix socket's path has at most 107 bytes; go-plugin's names and ours take
	// 30. And without a mount namespace, another user cannot pass the data
	// directory to get below it.
	const socketRoom = 77
	switch {
	case s.cfg.RunDir != "":
		dir = filepath.Join(s.cfg.RunDir, "covey-"+s.id)
	case s.mode.uids && s.tree.version != 0 && inMemory(sharedMemory):
		temp = sharedMemory
	case len(dir) > socketRoom || s.mode.uids && !s.mode.namespaces:
		temp = os.TempDir()
	}
	if temp != "" {
		// Anybody may write there, so the name must not be known beforehand.
		var err error
		if dir, err = os.MkdirTemp(temp, runPrefix); err != nil {
			return err
		}
	}
	s.runDir = dir
	if err := os.MkdirAll(filepath.Join(dir, rootDir), 0o711); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	if err := s.lockRunDir(); err != nil {
		return err
	}
	return writeProgram(filepath.Join(dir, stageFile), stage, 0o700)
}

// lockRunDir tells other daemons that this run directory is in use. One that looks
// for orphans may hold the lock for a moment.
func (s *Sandbox) lockRunDir() error {
	err := os.WriteFile(filepath.Join(s.runDir, lockFile), nil, 0o600)
	if err == nil {
		s.lock, err = waitLock(s.runDir)
	}
	return err
}

func inMemory(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.TMPFS_MAGIC && st.Flags&unix.ST_NOEXEC == 0
}

// writeProgram writes an executable. No fork may happen meanwhile: the child
// would hold the descriptor for a moment, and a file that somebody may write
// cannot be executed.
func writeProgram(path string, text []byte, perm os.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, text, perm)
}

func (s *Sandbox) removeRunDir() {
	if s.runDir == "" {
		return
	}
	if err := removeAll(s.runDir); err != nil {
		s.log.Warn().Err(err).Msg("run directory not removed")
	}
	if s.lock != nil {
		_ = s.lock.Close()
		s.lock = nil
	}
}

// saveLeftovers notes what the next daemon has to undo if this one is killed.
func (s *Sandbox) saveLeftovers() error {
	left := leftovers{RunDir: s.runDir, Loose: !s.mode.namespaces}
	for _, dir := range s.tree.dirs {
		left.Cgroups = append(left.Cgroups, dir)
	}
	if left.Loose && s.mode.uids {
		left.OwnUIDs = []uint32{s.slots.base, s.slots.count, s.slots.offset}
	}
	text, err := json.Marshal(left)
	if err != nil {
		return err
	}
	for _, path := range []string{filepath.Join(s.runDir, noteFile), filepath.Join(s.cfg.DataDir, leftoverFile)} {
		if err := os.WriteFile(path+".new", text, 0o600); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sandbox) dropLeftovers() {
	_ = os.Remove(filepath.Join(s.cfg.DataDir, leftoverFile))
}

// endLeftovers ends what a killed daemon of this data directory left running and
// removes what it left lying about. A process in a pid namespace died with the
// daemon, so usually there are only empty directories to remove. It fails when
// that daemon lives.
func (s *Sandbox) endLeftovers() error {
	left, err := readNote(filepath.Join(s.cfg.DataDir, leftoverFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		s.log.Warn().Err(err).Msg("note of an earlier daemon is unreadable")
	default:
		lock, err := waitLock(left.RunDir)
		if err != nil {
			return fmt.Errorf("data directory %s is in use: %w", s.cfg.DataDir, err)
		}
		s.undo(left)
		_ = lock.Close()
	}
	s.endOrphans(sharedMemory)
	s.endOrphans(os.TempDir())
	return nil
}

// waitLock takes the lock of a run directory. A child that was forked just before
// its daemon was killed holds the lock until it executes the stage. A directory
// that is gone needs no lock; nil is closed as well as any file.
func waitLock(runDir string) (*os.File, error) {
	deadline := time.Now().Add(2 * time.Second)
	for {
		lock, err := tryLock(runDir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return lock, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return nil, err
		}
		<-time.After(10 * time.Millisecond)
	}
}

// tryLock takes the lock of a run directory if nobody has it.
func tryLock(runDir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(runDir, lockFile), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(os.NewSyscallError("flock", err), lock.Close())
	}
	return lock, nil
}

func readNote(path string) (leftovers, error) {
	var left leftovers
	text, err := os.ReadFile(path)
	if err != nil {
		return left, err
	}
	if err := json.Unmarshal(text, &left); err != nil {
		return left, err
	}
	if !filepath.IsAbs(left.RunDir) {
		return left, fmt.Errorf("run directory %q is not absolute", left.RunDir)
	}
	return left, nil
}

// undo does what the daemon that left would have done in Close.
func (s *Sandbox) undo(left leftovers) {
	ended := false
	for _, dir := range left.Cgroups {
		ended = removeCgroups(dir) || ended
	}
	if left.Loose {
		ended = s.endLoose(left) || ended
	}
	if err := removeAll(left.RunDir); err != nil {
		s.log.Warn().Err(err).Msg("run directory of an earlier daemon not removed")
	}
	if ended {
		s.log.Warn().Msg("ended instances of an earlier daemon")
	}
}

// runPrefix begins the name of a run directory outside of the data directory.
const runPrefix = "covey-run-"

// endOrphans undoes what daemons left that died and whose data directories are
// gone or not started again. It takes those of its own user alone, and only once
// nobody holds their lock. What may still run is left to its own next daemon,
// which knows its marks.
func (s *Sandbox) endOrphans(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, runPrefix+"*"))
	for _, dir := range dirs {
		var st unix.Stat_t
		if unix.Lstat(dir, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() {
			continue
		}
		lock, err := tryLock(dir)
		if err != nil {
			continue // in use, or being made
		}
		left, err := readNote(filepath.Join(dir, noteFile))
		if err == nil && !left.Loose && left.RunDir == dir {
			s.undo(left)
		}
		_ = lock.Close()
	}
}

// endLoose finds instances by their mark, and by their user id where each had one.
func (s *Sandbox) endLoose(left leftovers) bool {
	ended := endProcesses(func(pid int) bool { return hasEnv(pid, markerName+"="+s.id+":") })
	if len(left.OwnUIDs) != 3 {
		return ended
	}
	then := slots{base: left.OwnUIDs[0], count: left.OwnUIDs[1], offset: left.OwnUIDs[2]}
	entries, _ := os.ReadDir(left.RunDir)
	for _, entry := range entries {
		if slot, err := strconv.ParseUint(entry.Name(), 36, 32); err == nil && then.count > 0 {
			uid := then.uid(uint32(slot))
			ended = endProcesses(func(pid int) bool { return ownedBy(pid, uid) }) || ended
		}
	}
	return ended
}

// endProcesses kills the processes that match, until none is left or two seconds
// have passed. It reports whether there was one.
func endProcesses(match func(pid int) bool) (ended bool) {
	deadline := time.Now().Add(2 * time.Second)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		found := false
		entries, _ := os.ReadDir("/proc")
		for _, entry := range entries {
			pid, err := strconv.Atoi(entry.Name())
			if err == nil && pid != os.Getpid() && match(pid) && killIf(pid, match) {
				found, ended = true, true
			}
		}
		if !found || time.Now().After(deadline) {
			return ended
		}
		<-time.After(wait)
	}
}

// killIf kills a living process if it still matches once it is held, so that a
// pid that changed hands meanwhile is spared.
func killIf(pid int, match func(int) bool) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if state, _ := statusField(pid, "State:"); !match(pid) || strings.HasPrefix(state, "Z") {
		return false
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}

// hasEnv tells whether the process was started with a variable that begins so.
func hasEnv(pid int, prefix string) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	for pair := range bytes.SplitSeq(text, []byte{0}) {
		if bytes.HasPrefix(pair, []byte(prefix)) {
			return true
		}
	}
	return false
}

// ownedBy tells whether the process's real user is uid.
func ownedBy(pid int, uid uint32) bool {
	ids, err := statusField(pid, "Uid:")
	if err != nil {
		return false
	}
	real, _, _ := strings.Cut(ids, "\t")
	return real == strconv.FormatUint(uint64(uid), 10)
}

// statusField returns a line of /proc/PID/status without its name.
func statusField(pid int, name string) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", fmt.Errorf("no %s in status of process %d", name, pid)
}

// removeAll removes a directory whose content a hostile program made. Without
// root it may have locked its own directories; it cannot lead out of them,
// because os.RemoveAll does not follow links.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || os.Geteuid() == 0 {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
