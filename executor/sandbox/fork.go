//go:build linux && (amd64 || arm64)

package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// failureSize is the length of a failure that the stage reports; its other
// message, the greeting, is shorter.
const failureSize = 16

// run writes the script, forks the stage, and waits for the code to be executed.
func (s *Sandbox) run(p *Process, pl *plan) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	p.report = pair[0]
	if !pl.park {
		defer func() { _ = unix.Close(p.takeReport()) }()
	}
	theirs := os.NewFile(uintptr(pair[1]), "report")
	pl.owned = append(pl.owned, theirs)
	// Credentials of the sender come with each message: that is how the daemon
	// learns the process id of the code, which sits in a namespace.
	if err := unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	var exit *os.File
	if s.mode.namespaces {
		var ends [2]int
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			return os.NewSyscallError("pipe2", err)
		}
		p.exit = ends[0]
		exit = os.NewFile(uintptr(ends[1]), "exit")
		pl.owned = append(pl.owned, exit)
	}
	pl.environment(s.mark(p))
	if err := pl.descriptors(s.null, theirs, exit); err != nil {
		return err
	}
	if err := pl.write(); err != nil {
		return err
	}
	pl.seal()
	if err := s.fork(p, pl); err != nil {
		return err
	}
	// The stage has its copies; with ours gone, its death ends the wait below.
	pl.close()
	p.berth.cgroup.closeJoin()
	if pl.park {
		p.received = len(pl.files)
		err = p.awaitGreeting(pair[0], pl.script)
	} else {
		err = p.await(pair[0], pl.script)
	}
	s.mu.Lock()
	s.living[p] = struct{}{}
	if s.closed {
		p.kill()
	}
	s.mu.Unlock()
	if err != nil {
		p.kill()
		p.reap()
		return err
	}
	s.watch(p)
	return nil
}

// setupTimeout bounds the time from fork to exec. Only a machine that swaps itself
// to death needs more.
const setupTimeout = 20 * time.Second

// watch ends when the process and everything of it is gone.
func (s *Sandbox) watch(p *Process) {
	s.running.Go(func() {
		p.waitExit()
		p.reap()
		close(p.done)
		p.release()
		close(p.gone)
	})
}

// await returns when the code runs, or with the failure that the stage reports.
// Either way the stage's ends of the socket are closed then, and only that wakes
// this thread: the messages before wait in the socket.
func (p *Process) await(fd int, script *script) error {
	closed := []unix.PollFd{{Fd: int32(fd)}} // POLLHUP needs no asking
	deadline := time.Now().Add(setupTimeout)
	for {
		n, err := unix.Poll(closed, int(time.Until(deadline).Milliseconds())+1)
		if n > 0 {
			break
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the stage does not finish within %v", setupTimeout)
		}
	}
	for {
		if said, err := p.listen(fd, script, unix.MSG_DONTWAIT); err != nil || !said {
			return err
		}
	}
}

// errStageDied is the end of a stage before it had anything to say.
var errStageDied = errors.New("the stage died before the code was executed")

// listen takes one message of the stage: its greeting, or the failure that it
// reports. It returns false at the end of all messages.
func (p *Process) listen(fd int, script *script, flags int) (said bool, err error) {
	var message [failureSize]byte
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		n, oobn, _, _, err := unix.Recvmsg(fd, message[:], oob, unix.MSG_CMSG_CLOEXEC|flags)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, fmt.Errorf("read what the stage says: %w", err)
		case n == failureSize:
			return false, script.failure(message[:])
		case n == 0 && p.pid == 0:
			return false, errStageDied
		case n > 0:
			p.pid = senderPid(oob[:oobn])
		}
		return n > 0, nil
	}
}

// senderPid returns the process id in the credentials of a message, 0 if none.
func senderPid(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for i := range messages {
		if messages[i].Header.Type == unix.SCM_CREDENTIALS {
			return int(int32(binary.NativeEndian.Uint32(messages[i].Data)))
		}
	}
	return 0
}

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
