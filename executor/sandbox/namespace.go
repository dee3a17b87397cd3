//go:build linux && (amd64 || arm64)

package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// rootLayout is what an instance's file system is made of: a small tmpfs with a
// chosen few of the host's paths bound into it, read-only. A list of what is
// shown, not of what is hidden: the data directory, home directories and the
// sockets of other services are absent because nobody put them there.
type rootLayout struct {
	dirs  []string    // empty directories to make, parents first
	binds []string    // host directories shown read-only at the same place
	files []string    // host files shown likewise
	nodes []string    // host device nodes shown
	links [][2]string // symbolic links: target, place
}

// Candidates for binds; those that the host lacks are left out. The files of
// /etc are what the C library reads to resolve names, users and times.
var (
	shownDirs = []string{
		"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store",
		"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/alternatives",
	}
	shownFiles = []string{
		"/etc/passwd", "/etc/group", "/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf",
		"/etc/ld.so.cache", "/etc/localtime", "/etc/services", "/etc/protocols", "/etc/mime.types",
	}
	shownNodes = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
)

// hostLayout looks at the host and returns the layout of every instance's root.
// runDir becomes a path of empty directories: the places of the private ones.
func hostLayout(runDir string, links [][2]string) rootLayout {
	var l rootLayout
	l.mkdir("/proc", "/tmp", "/etc", sharedMemory, TaskDir, CacheDir, OptDir)
	if !inTmp(runDir) {
		l.mkdir(runDir)
	}
	for _, dir := range shownDirs {
		info, err := os.Lstat(dir)
		switch {
		case err != nil:
		case info.Mode()&os.ModeSymlink != 0: // a merged /usr
			if target, err := os.Readlink(dir); err == nil {
				l.links = append(l.links, [2]string{target, dir})
			}
		case info.IsDir():
			l.mkdir(dir)
			l.binds = append(l.binds, dir)
		}
	}
	for _, file := range shownFiles {
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			l.files = append(l.files, file)
		}
	}
	for _, node := range shownNodes {
		if _, err := os.Stat(node); err == nil {
			l.nodes = append(l.nodes, node)
		}
	}
	for _, link := range links {
		l.mkdir(filepath.Dir(link[1]))
		l.links = append(l.links, link)
	}
	l.links = append(l.links,
		[2]string{"/proc/self/fd", "/dev/fd"}, [2]string{"/proc/self/fd/0", "/dev/stdin"},
		[2]string{"/proc/self/fd/1", "/dev/stdout"}, [2]string{"/proc/self/fd/2", "/dev/stderr"})
	return l
}

// mkdir adds directories with their parents.
func (l *rootLayout) mkdir(paths ...string) {
	for _, path := range paths {
		for i := 1; i <= len(path); i++ {
			if i == len(path) || path[i] == '/' {
				l.dirs = append(l.dirs, path[:i])
			}
		}
	}
}

// frame adds the steps that make the layout below root, an existing directory,
// but for files and nodes. They need CAP_SYS_ADMIN over a mount namespace of the
// caller's own.
func (l *rootLayout) frame(s *script, root string) {
	s.sys("make mounts private", unix.SYS_MOUNT, 0, s.str("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	// Not MS_NODEV: a template has its device nodes right here, and making others
	// takes a capability that no instance has.
	s.sys("mount root", unix.SYS_MOUNT, s.str("tmpfs"), s.str(root), s.str("tmpfs"), unix.MS_NOSUID, s.str("mode=755,size=4m"))
	s.mkdirs(root, l.dirs)
	for _, path := range l.binds {
		s.bind(path, root+path, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	}
	for _, link := range l.links {
		s.sys("link "+link[1], unix.SYS_SYMLINKAT, s.str(link[0]), atCWD, s.str(root+link[1]))
	}
}

// bindFiles adds the steps that show files and nodes by one mount each, as an
// unprivileged user must.
func (l *rootLayout) bindFiles(s *script, root string) {
	for _, path := range l.files {
		s.bind(path, root+path, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	}
	for _, node := range l.nodes {
		s.bind(node, root+node, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	}
}

// copyFiles does by ordinary calls what bindFiles does by mounts. Each start
// copies the template's mounts, so twenty fewer make it a third faster; a changed
// resolv.conf is seen only after the daemon's next start.
func (l *rootLayout) copyFiles(root string) error {
	for _, path := range l.files {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(root+path, text, 0o444); err != nil {
			return err
		}
	}
	for _, path := range l.nodes {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return &os.PathError{Op: "stat", Path: path, Err: err}
		}
		if err := unix.Mknod(root+path, unix.S_IFCHR, int(st.Rdev)); err != nil {
			return &os.PathError{Op: "mknod", Path: root + path, Err: err}
		}
		if err := os.Chmod(root+path, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// mkdirs adds the steps that make directories below root.
func (s *script) mkdirs(root string, dirs []string) {
	for _, dir := range dirs {
		// A directory may be listed twice; a real failure shows at the mount.
		s.sys("make "+dir, unix.SYS_MKDIRAT, atCWD, s.str(root+dir), 0o755).optional = true
	}
}

// touch adds the step that makes an empty file, if there is nothing yet.
func (s *script) touch(path string) {
	s.sys("make "+path, unix.SYS_MKNODAT, atCWD, s.str(path), unix.S_IFREG|0o644, 0).optional = true
}

// pivot adds the steps that make root the root and drop everything else. The old
// root is stacked on the new one for a moment, so that it needs no place in it.
func (s *script) pivot(root string) {
	s.sys("enter root", unix.SYS_CHDIR, s.str(root))
	s.sys("change root", unix.SYS_PIVOT_ROOT, s.str("."), s.str("."))
	s.sys("drop old root", unix.SYS_UMOUNT2, s.str("."), unix.MNT_DETACH)
	s.sys("enter new root", unix.SYS_CHDIR, s.str("/"))
}

// bind adds the steps that show a host path at target. The target is made when
// its directory exists. Attributes are only added to those of the source, which
// a user namespace insists on.
func (s *script) bind(source, target string, attrs uint64) {
	if info, err := os.Stat(source); err == nil && !info.IsDir() {
		s.touch(target)
	}
	s.sys("bind "+source, unix.SYS_MOUNT, s.str(source), s.str(target), 0, unix.MS_BIND|unix.MS_REC, 0)
	s.setattr("protect "+source, target, attrs)
}

func (s *script) setattr(name, target string, attrs uint64) {
	attr := s.words(attrs, 0, 0, 0) // struct mount_attr
	s.sys(name, unix.SYS_MOUNT_SETATTR, atCWD, s.str(target), unix.AT_RECURSIVE, attr, 32)
}

func (s *script) mountTmpfs(target, options string) {
	s.sys("mount tmpfs", unix.SYS_MOUNT, s.str("tmpfs"), s.str(target), s.str("tmpfs"),
		unix.MS_NOSUID|unix.MS_NODEV, s.str(options))
}

// mountProc mounts the /proc of the caller's own pid namespace.
func (s *script) mountProc(target string) {
	s.sys("mount proc", unix.SYS_MOUNT, s.str("proc"), s.str(target), s.str("proc"),
		unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
}

// moveMount places a mount that openTree detached from the host at target.
func (s *script) moveMount(name string, fd int, target string) {
	s.sys(name, unix.SYS_MOVE_MOUNT, uintptr(fd), s.str(""), atCWD, s.str(target), unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// atCWD is AT_FDCWD as an argument of a step.
const atCWD = ^uintptr(0) - 99

// openTree returns a detached copy of the mount at path, with attributes added.
// The caller's mounts are as they were.
func openTree(path string, attrs uint64) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	tree := os.NewFile(uintptr(fd), path)
	attr := unix.MountAttr{Attr_set: attrs, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		_ = tree.Close()
		return nil, &os.PathError{Op: "mount_setattr", Path: path, Err: err}
	}
	return tree, nil
}

// shown tells whether path is visible in every root already.
func (l *rootLayout) shown(path string) bool {
	for _, bound := range l.binds {
		if path == bound || strings.HasPrefix(path, bound+"/") {
			return true
		}
	}
	return slices.Contains(l.files, path)
}

// makeTarget makes the place for a mount of source below root, by ordinary
// calls of the calling thread.
func makeTarget(root, path string, dir bool) error {
	target := filepath.Join(root, path)
	if dir {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}
