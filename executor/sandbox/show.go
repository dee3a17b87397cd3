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

// Show makes host directories visible in a running instance, read-only. It returns
// os.ErrProcessDone after the end of the instance, and errors.ErrUnsupported where
// Shows is false.
func (p *Process) Show(places ...Place) error {
	return p.mount(places, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
}

// Share is Show for a directory that the instance may write to: it is given to the
// instance's user. The caller must trust nothing that it finds there later.
func (p *Process) Share(place Place) error {
	if err := p.sandbox.giveAll(place.Source, p.berth); err != nil {
		return fmt.Errorf("share %s: %w", place.Source, err)
	}
	return p.mount([]Place{place}, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
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

// mount places copies of mounts in the instance's mount namespace. One visit does for
// all, because going there and back is most of the price.
func (p *Process) mount(places []Place, attrs uint64) error {
	s := p.sandbox
	if !s.mode.template {
		return fmt.Errorf("show directories: %w", errors.ErrUnsupported)
	}
	trees := make([]*os.File, 0, len(places))
	defer func() {
		for _, tree := range trees {
			_ = tree.Close() // what is mounted stays
		}
	}()
	for _, place := range places {
		if !filepath.IsAbs(place.Source) {
			return fmt.Errorf("show %s: not an absolute path", place.Source)
		}
		tree, err := openTree(place.Source, attrs)
		if err != nil {
			return fmt.Errorf("show %s: %w", place.Source, err)
		}
		trees = append(trees, tree)
	}
	return s.visit.run(p, func() error {
		for i, place := range places {
			err := unix.MoveMount(int(trees[i].Fd()), "", unix.AT_FDCWD, place.Target, unix.MOVE_MOUNT_F_EMPTY_PATH)
			if err != nil {
				return fmt.Errorf("show %s at %s: %w", place.Source, place.Target, os.NewSyscallError("move_mount", err))
			}
		}
		return nil
	})
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
	done := make(chan error, 1)
	request := func() {
		err := v.enter(p)
		if err == nil {
			err = f()
		}
		done <- err // the caller need not wait for the way home
		if err := unix.Setns(int(v.home.Fd()), unix.CLONE_NEWNS); err != nil {
			// A thread that cannot go home must not do anything else; it ends with this
			// goroutine, and later requests find nobody.
			runtime.Goexit()
		}
	}
	select {
	case v.requests <- request:
		return <-done
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
