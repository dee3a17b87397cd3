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
	for _, v := range p.views() {
		info, err := os.Stat(v.path)
		if err != nil {
			return err
		}
		if p.shown == nil {
			p.shown = map[string]bool{}
		}
		p.shown[v.path] = info.IsDir()
		tree, err := openTree(v.path, v.attrs)
		if err != nil {
			return err
		}
		s.moveMount("mount "+v.path, p.own(tree), v.path)
	}
	return nil
}

// view is a host path that the instance sees, at the same place.
type view struct {
	path  string
	attrs uint64 // of the mount
}

// views are the paths that the spec asks for and that no root shows anyway.
func (p *plan) views() []view {
	var all []view
	for _, path := range p.spec.ReadPaths {
		if !p.layout.shown(path) {
			all = append(all, view{path, unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV})
		}
	}
	for _, path := range p.spec.WritePaths {
		all = append(all, view{path, unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV})
	}
	return all
}

// buildRoot makes the whole root in the instance's own mount namespace.
func (p *plan) buildRoot() {
	s := p.script
	layout := *p.layout
	layout.dirs = slices.Clip(layout.dirs)
	if !inTmp(p.dir) {
		layout.mkdir(p.dir)
	}
	for _, v := range p.views() {
		if inTmp(v.path) {
			continue
		}
		layout.mkdir(filepath.Dir(v.path))
		if info, err := os.Stat(v.path); err == nil && info.IsDir() {
			layout.mkdir(v.path)
		}
	}
	layout.frame(s, p.root)
	layout.bindFiles(s, p.root)
	// Before the old root goes: in a user namespace the kernel wants to see that
	// a whole /proc was visible already.
	s.mountProc(p.root + "/proc")
	p.mountTmp(p.root)
	s.bind(p.dir, p.root+p.dir, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	for _, v := range p.views() {
		s.bind(v.path, p.root+v.path, v.attrs)
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
	paths := append(slices.Clone(p.spec.ReadPaths), p.spec.WritePaths...)
	for _, path := range append([]string{p.dir}, paths...) {
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
	for _, path := range paths {
		s.touch(root + path)
	}
}

// inTmp tells whether the private /tmp covers the path.
func inTmp(path string) bool {
	return strings.HasPrefix(path, "/tmp/") || strings.HasPrefix(path, sharedMemory+"/")
}
