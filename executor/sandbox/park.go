//go:build linux && (amd64 || arm64)

package sandbox

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Everything of a start that does not depend on the instance can be done before
// anybody asks for one: the fork, the namespaces, the mounts, the change of user
// and the filter, which together take longer than to execute a small program. So a
// berth comes with a parked stage: a process that has done all that and waits,
// confined already, for an order. The order is one message with a second script and
// the instance's descriptors; the stage reads the script, puts the descriptors in
// their places and executes the code. A parked stage costs two processes of a few
// pages each.
//
// Instances with limits, paths or a network of their own are started the long way:
// what they need takes power that a parked stage has given up.

// parkedFiles is how many of Spec.Files an order can bring.
const parkedFiles = 4

// errParkedGone says that a parked stage has died, for whatever reason, before it
// got its order: another one may do.
var errParkedGone = errors.New("the parked stage is gone")

// parkable tells whether an order can describe the instance. Defaults are set.
func parkable(spec *Spec) bool {
	return spec.Pids == defaultPids && spec.NoFile == defaultNoFile && spec.TmpSize == defaultTmp &&
		!spec.Network && len(spec.ReadPaths)+len(spec.WritePaths) == 0 && len(spec.Files) <= parkedFiles
}

// park starts a stage in the berth, which belongs to the stage's Process then, also
// after an error.
func (s *Sandbox) park(b *berth) error {
	p := s.newProcess(b)
	if err := s.enter(); err != nil {
		p.release()
		return err
	}
	defer s.running.Done()
	spec := &Spec{Instance: "parked"}
	setDefaults(spec)
	for range parkedFiles {
		spec.Files = append(spec.Files, s.null) // keeps their numbers free of ours
	}
	pl := s.planFor(b, spec)
	defer pl.close()
	pl.park = true
	if err := s.run(p, pl); err != nil {
		p.release()
		return err
	}
	b.parked = p
	return nil
}

// awaitGreeting returns when the stage is parked, or with the failure that it
// reports.
func (p *Process) awaitGreeting(fd int, script *script) error {
	timeout := unix.NsecToTimeval(setupTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	_, err := p.listen(fd, script, 0)
	if errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("the stage is not parked within %v", setupTimeout)
	}
	return err
}

// awaitOrder adds the steps by which a parked stage waits for its order and goes on
// with the script that comes with it. When the daemon has closed its end instead,
// nothing was received, and the stage is done.
func (p *plan) awaitOrder() {
	s := p.script
	const most = 4 + parkedFiles // descriptors: script, output, errors, code, files
	control := s.put(make([]byte, unix.CmsgSpace(4*most)))
	iov := s.words(uint64(s.words(0)), 8)
	message := s.words(0, 0, uint64(iov), 1, uint64(control), uint64(unix.CmsgSpace(4*most)), 0) // struct msghdr
	receive := s.sys("wait for an order", unix.SYS_RECVMSG, uintptr(p.report), message, unix.MSG_CMSG_CLOEXEC)
	receive.want = 0
	at := len(s.steps) - 1
	s.sys("read the order", unix.SYS_READ, uintptr(p.next()), orderBase, scriptSize/2)
	follow := s.sys("follow the order", unix.SYS_GETPID)
	follow.want, follow.jump = 2, orderBase+scriptHeader // the code's process is always number 2
	s.steps[at].target = s.next()
	s.sys("exit", unix.SYS_EXIT_GROUP, 0)
}

// order makes a parked stage an instance. It returns like startIn, or with
// errParkedGone.
func (s *Sandbox) order(p *Process, spec *Spec, probe bool) error {
	report := p.takeReport()
	if report < 0 {
		return errParkedGone
	}
	defer unix.Close(report)
	err := p.berth.cgroup.limit(spec.Memory, spec.Pids)
	var script *script
	if err == nil {
		script, err = s.send(p, report, spec, probe)
	}
	if err == nil {
		err = p.await(report, script)
	}
	if errors.Is(err, unix.ECONNRESET) {
		err = errParkedGone // it died without having read the order
	}
	if err != nil {
		p.Kill()
	}
	return err
}

// send writes the order and hands it to the stage with the instance's descriptors.
func (s *Sandbox) send(p *Process, report int, spec *Spec, probe bool) (*script, error) {
	pl := s.planFor(p.berth, spec)
	pl.probe = probe
	pl.environment(s.mark(p))
	pl.script = newScriptAt(orderBase)
	files, err := pl.obey(p.received, s.null)
	if err != nil {
		return nil, err
	}
	text, err := pl.script.encode(0) // the stage knows already where to report
	if err != nil {
		return nil, err
	}
	order, err := scriptFile(text)
	if err != nil {
		return nil, err
	}
	defer order.Close()
	rights := make([]int, 0, len(files)+1)
	for _, f := range append([]*os.File{order}, files...) {
		rights = append(rights, int(f.Fd()))
	}
	err = unix.Sendmsg(report, []byte{'O'}, unix.UnixRights(rights...), nil, unix.MSG_NOSIGNAL)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil, errParkedGone
	}
	return pl.script, os.NewSyscallError("sendmsg", err)
}

// obey writes the order and returns the descriptors that go with it, in order,
// behind the script itself; the stage gets them under the numbers from received on.
func (p *plan) obey(received int, null *os.File) ([]*os.File, error) {
	s := p.script
	files := []*os.File{null, null}
	if p.spec.Stdout != nil {
		files[0] = p.spec.Stdout
	}
	if p.spec.Stderr != nil {
		files[1] = p.spec.Stderr
	}
	files = append(files, p.spec.Files...)
	for i := range files { // 1, 2, 3 …
		s.sys("place descriptor", unix.SYS_DUP3, uintptr(received+1+i), uintptr(1+i), 0)
	}
	if p.spec.Code != nil {
		files = append(files, p.spec.Code)
		p.code = received + len(files)
		keep, err := isScript(p.spec.Code)
		if err != nil {
			return nil, err
		}
		if keep {
			after := 3 + len(p.spec.Files) // one of ours at most, /dev/null, which has served
			s.sys("keep code open", unix.SYS_DUP3, uintptr(p.code), uintptr(after), 0)
			p.code = after
		}
	}
	p.exec()
	return files, nil
}

// takeReport returns the socket to a parked stage, which the caller owns then, or -1
// when somebody else has taken it.
func (p *Process) takeReport() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	report := p.report
	p.report = -1
	return report
}
