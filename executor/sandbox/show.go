//go:build linux && (amd64 || arm64)

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Shows tells whether Process.Show works on this machine. Where it does not, paths
// can be given to a start only (Spec.ReadPaths).
func (s *Sandbox) Shows() bool { return s.mode.template }

// Show makes a host directory visible in a running instance, read-only, at one of
// TaskDir, CacheDir and OptDir, which must be empty still. It returns
// os.ErrProcessDone after the end of the instance, and errors.ErrUnsupported where
// Shows is false.
func (p *Process) Show(source, target string) error {
	return p.mount(source, target, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
}

// Share is Show for a directory that the instance may write to: it is given to the
// instance's user. The caller must trust nothing that it finds there later.
func (p *Process) Share(source, target string) error {
	if err := p.sandbox.giveAll(source, p.berth); err != nil {
		return fmt.Errorf("share %s: %w", source, err)
	}
	return p.mount(source, target, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
}

// giveAll gives a directory with everything in it to the berth's user.
func (s *Sandbox) giveAll(dir string, b *berth) error {
	if !s.mode.uids {
		return nil
	}
	uid := int(s.slots.uid(b.slot))
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid)
	})
}

// mount places a copy of a mount in the instance's mount namespace.
func (p *Process) mount(source, target string, attrs uint64) error {
	s := p.sandbox
	if !s.mode.template {
		return fmt.Errorf("show %s: %w", source, errors.ErrUnsupported)
	}
	if !filepath.IsAbs(source) {
		return fmt.Errorf("show %s: not an absolute path", source)
	}
	tree, err := openTree(source, attrs)
	if err != nil {
		return fmt.Errorf("show %s: %w", source, err)
	}
	defer tree.Close()
	if err := s.visit.run(p, func() error {
		return os.NewSyscallError("move_mount",
			unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH))
	}); err != nil {
		return fmt.Errorf("show %s at %s: %w", source, target, err)
	}
	return nil
}

// Limit sets the memory limit of a running instance, in bytes; 0 leaves it as it is.
// It fails when the instance uses more already. Without a memory cgroup it does
// nothing: watch Memory there.
func (p *Process) Limit(memory int64) error {
	if err := p.berth.cgroup.limitMemory(memory); err != nil {
		return fmt.Errorf("limit memory to %d bytes: %w", memory, err)
	}
	return nil
}

// visitor is a thread that goes into instances' mount namespaces. The namespace of
// an instance that ends meanwhile lives on until the thread has left it.
type visitor struct {
	requests chan func()
	home     *os.File      // the daemon's own mount namespace
	ended    chan struct{} // closed when the thread has ended
	done     sync.WaitGroup
}

// startVisitor returns once the thread is ready.
func startVisitor() (*visitor, error) {
	v := &visitor{requests: make(chan func()), ended: make(chan struct{})}
	ready := make(chan error, 1)
	ownThread(&v.done, func() {
		defer close(v.ended)
		err := unix.Unshare(unix.CLONE_FS) // a thread that shares root and directory cannot move
		if err == nil {
			v.home, err = os.Open("/proc/thread-self/ns/mnt")
		}
		ready <- err
		if err != nil {
			return
		}
		defer v.home.Close()
		for request := range v.requests {
			request()
		}
	})
	if err := <-ready; err != nil {
		v.done.Wait()
		return nil, fmt.Errorf("start visitor: %w", err)
	}
	return v, nil
}

// run calls f in the instance's mount namespace. f must only make system calls.
func (v *visitor) run(p *Process, f func() error) error {
	var err error
	done := make(chan struct{})
	request := func() {
		defer close(done)
		if err = v.enter(p); err == nil {
			err = f()
		}
		if home := unix.Setns(int(v.home.Fd()), unix.CLONE_NEWNS); home != nil {
			// A thread that cannot go home must not do anything else; it ends with this
			// goroutine, and later requests find nobody.
			err = errors.Join(err, os.NewSyscallError("setns", home))
			runtime.Goexit()
		}
	}
	select {
	case v.requests <- request:
		<-done
		return err
	case <-v.ended:
		return ErrClosed
	}
}

// enter moves the calling thread into the instance's mount namespace.
func (v *visitor) enter(p *Process) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return os.ErrProcessDone
	}
	err := unix.Setns(p.stageFD, unix.CLONE_NEWNS)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("setns", err)
}

// close ends the thread.
func (v *visitor) close() {
	close(v.requests)
	v.done.Wait()
}
