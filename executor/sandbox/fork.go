//go:build linux && (amd64 || arm64)

package sandbox

import (
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// fork runs the stage with the plan's script on the launcher's thread. The pid
// of the stage, and a descriptor of it, go to p.
func (s *Sandbox) fork(p *Process, pl *plan) error {
	text, err := pl.script.encode(pl.report)
	if err != nil {
		return err
	}
	script, err := scriptFile(text)
	if err != nil {
		return err
	}
	defer script.Close()
	pl.files[0] = script
	attr := &syscall.ProcAttr{Sys: s.forkAttr(pl, &p.stageFD), Files: make([]uintptr, len(pl.files))}
	for i, f := range pl.files {
		attr.Files[i] = f.Fd()
	}
	stage := filepath.Join(s.runDir, stageFile)
	if s.mode.template {
		stage = templateStage
	}
	s.launch.do(func() {
		if err = s.makeTargets(pl); err == nil {
			p.stage, err = syscall.ForkExec(stage, []string{stageFile}, attr)
		}
	})
	if err != nil {
		return os.NewSyscallError("fork", err)
	}
	// Through the runtime's poller a thousand waiting instances cost no thread.
	if err := unix.SetNonblock(p.stageFD, true); err != nil {
		p.kill()
		p.reap()
		return os.NewSyscallError("set pidfd non-blocking", err)
	}
	p.stagePoll = os.NewFile(uintptr(p.stageFD), "pidfd")
	return nil
}

// scriptFile returns a descriptor at the start of a file in memory.
func scriptFile(text []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("script", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "script")
	if _, err := f.WriteAt(text, 0); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// forkAttr says what the clone call itself has to do.
func (s *Sandbox) forkAttr(pl *plan, pidFD *int) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{PidFD: pidFD}
	if s.mode.namespaces {
		attr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	}
	if s.mode.userns {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		if !pl.spec.Network {
			attr.Cloneflags |= unix.CLONE_NEWNET
		}
		uid, gid := os.Getuid(), os.Getgid()
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		// Executing the stage would drop what a user other than 0 has.
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SETPCAP}
	}
	if pl.cgroup != nil && pl.cgroup.version == 2 {
		attr.UseCgroupFD = true
		attr.CgroupFD = int(pl.cgroup.join[0].Fd())
	}
	return attr
}

// makeTargets makes the places of the instance's own mounts in the template. It
// runs on the launcher's thread, whose root that is. The names stay: they are
// small numbers, and paths that some function reads.
func (s *Sandbox) makeTargets(pl *plan) error {
	if !s.mode.template {
		return nil
	}
	if !inTmp(pl.dir) {
		if err := makeTarget("/", pl.dir, true); err != nil {
			return err
		}
	}
	for path, isDir := range pl.shown {
		if inTmp(path) {
			continue // mountTmp makes it
		}
		if err := makeTarget("/", path, isDir); err != nil {
			return err
		}
	}
	return nil
}
