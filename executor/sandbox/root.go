//go:build linux && (amd64 || arm64)

package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// attach completes a copy of the template.
func (p *plan) attach() error {
	s := p.script
	s.mountProc("/proc")
	p.mountTmp("")
	dir, err := openTree(p.dir, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return err
	}
	s.moveMount("mount private directory", p.own(dir), p.dir)
	for _, path := range p.spec.ReadPaths {
		if p.layout.shown(path) {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if p.shown == nil {
			p.shown = map[string]bool{}
		}
		p.shown[path] = info.IsDir()
		tree, err := openTree(path, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
		if err != nil {
			return err
		}
		s.moveMount("mount "+path, p.own(tree), path)
	}
	return nil
}

// buildRoot makes the whole root in the instance's own mount namespace.
func (p *plan) buildRoot() {
	s := p.script
	layout := *p.layout
	layout.dirs = slices.Clip(layout.dirs)
	if !inTmp(p.dir) {
		layout.mkdir(p.dir)
	}
	for _, path := range p.spec.ReadPaths {
		if !p.layout.shown(path) {
			if inTmp(path) {
				continue
			}
			layout.mkdir(filepath.Dir(path))
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				layout.mkdir(path)
			}
		}
	}
	layout.frame(s, p.root)
	layout.bindFiles(s, p.root)
	// Before the old root goes: in a user namespace the kernel wants to see that
	// a whole /proc was visible already.
	s.mountProc(p.root + "/proc")
	p.mountTmp(p.root)
	s.bind(p.dir, p.root+p.dir, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	for _, path := range p.spec.ReadPaths {
		if !p.layout.shown(path) {
			s.bind(path, p.root+path, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
		}
	}
	s.pivot(p.root)
	s.sys("protect root", unix.SYS_MOUNT_SETATTR, atCWD, s.str("/"), 0, s.words(unix.MOUNT_ATTR_RDONLY, 0, 0, 0), 32)
}

// mountTmp mounts the private /tmp, which is /dev/shm as well, and makes anew the
// places for other mounts that it covers.
func (p *plan) mountTmp(root string) {
	s := p.script
	s.mountTmpfs(root+"/tmp", "mode=1777,size="+strconv.FormatInt(p.spec.TmpSize, 10))
	s.sys("mount shared memory", unix.SYS_MOUNT, s.str(root+"/tmp"), s.str(root+sharedMemory), 0, unix.MS_BIND, 0)
	var places rootLayout
	for _, path := range append([]string{p.dir}, p.spec.ReadPaths...) {
		if inTmp(path) {
			info, err := os.Stat(path)
			if err == nil && !info.IsDir() {
				places.mkdir(filepath.Dir(path))
				continue
			}
			places.mkdir(path)
		}
	}
	s.mkdirs(root, places.dirs)
	for _, path := range p.spec.ReadPaths {
		s.touch(root + path)
	}
}

// inTmp tells whether the private /tmp covers the path.
func inTmp(path string) bool {
	return strings.HasPrefix(path, "/tmp/") || strings.HasPrefix(path, sharedMemory+"/")
}
