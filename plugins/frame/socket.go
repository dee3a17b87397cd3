package frame

import (
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
)

// maxFiles bounds the descriptors that wait to be taken. A peer that sends more is broken.
const maxFiles = 64

// Socket is a Unix stream socket that carries descriptors beside the bytes and can write without waiting.
// One goroutine may read and one may write at a time; TakeFile belongs to the reader.
type Socket struct {
	*net.UnixConn
	raw syscall.RawConn

	// The callbacks and their arguments are fields so that a system call allocates nothing.
	readFn, writeFn   func(fd uintptr) bool
	rp, wp            []byte
	rn, roob, wn      int
	rerr, werr        error
	oob               []byte
	mu                sync.Mutex // guards files and accepting
	files             []*os.File
	accepting, closed bool
}

// NewSocket takes over c. With acceptFiles, descriptors that come in are kept, close-on-exec, for TakeFile;
// otherwise the kernel drops them.
func NewSocket(c *net.UnixConn, acceptFiles bool) (*Socket, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("reach descriptor of socket: %w", err)
	}
	s := &Socket{UnixConn: c, raw: raw, accepting: acceptFiles}
	s.readFn, s.writeFn = s.recv, s.send
	if acceptFiles {
		s.oob = make([]byte, syscall.CmsgSpace(4*4))
	}
	return s, nil
}

// Read reads bytes, and takes in descriptors if the socket accepts them.
func (s *Socket) Read(p []byte) (int, error) {
	if s.oob == nil || len(p) == 0 {
		return s.UnixConn.Read(p)
	}
	s.rp = p
	err := s.raw.Read(s.readFn)
	s.rp = nil
	switch {
	case err != nil:
		return 0, err
	case s.rerr != nil:
		return 0, fmt.Errorf("receive from socket: %w", s.rerr)
	}
	if s.roob > 0 {
		if err := s.keepFiles(s.oob[:s.roob]); err != nil {
			return 0, err
		}
	}
	if s.rn == 0 {
		return 0, errEOF
	}
	return s.rn, nil
}

// recv is one recvmsg; it reports false to wait until the socket is readable.
func (s *Socket) recv(fd uintptr) bool {
	for {
		s.rn, s.roob, _, _, s.rerr = syscall.Recvmsg(int(fd), s.rp, s.oob, recvFlags)
		if s.rerr != syscall.EINTR { //nolint:errorlint // A bare errno from the system call.
			break
		}
	}
	return s.rerr != syscall.EAGAIN //nolint:errorlint // As above.
}

func (s *Socket) keepFiles(oob []byte) error {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("parse control message: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range messages {
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return fmt.Errorf("parse descriptors: %w", err)
		}
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "lane")
			if s.closed || len(s.files) == maxFiles {
				_ = f.Close()
				continue
			}
			s.files = append(s.files, f)
		}
	}
	return nil
}

// TakeFile returns the descriptor that came in first, or nil. A descriptor arrives no later than the first
// byte of the message that it was sent with.
func (s *Socket) TakeFile() *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) == 0 {
		return nil
	}
	f := s.files[0]
	s.files = s.files[1:]
	return f
}

// TryWrite writes what fits into the socket's buffer now; n may be less than len(p) without an error.
func (s *Socket) TryWrite(p []byte) (n int, err error) {
	s.wp, s.wn, s.werr = p, 0, nil
	err = s.raw.Write(s.writeFn)
	s.wp = nil
	if err == nil {
		err = s.werr
	}
	return s.wn, err
}

// send writes until the socket would block. It always reports true, so that nothing waits.
func (s *Socket) send(fd uintptr) bool {
	for s.wn < len(s.wp) {
		n, err := syscall.Write(int(fd), s.wp[s.wn:])
		switch {
		case n > 0:
			s.wn += n
		case err == syscall.EINTR: //nolint:errorlint // A bare errno from the system call.
		case err == syscall.EAGAIN: //nolint:errorlint // As above.
			return true
		default:
			s.werr = fmt.Errorf("write to socket: %w", err)
			return true
		}
	}
	return true
}

// writeFile writes p with a descriptor beside its first byte, waiting for room.
func (s *Socket) writeFile(p []byte, f *os.File) (int, error) {
	n, _, err := s.WriteMsgUnix(p, syscall.UnixRights(int(f.Fd())), nil)
	return n, err
}

// Close closes the socket and the descriptors nobody took.
func (s *Socket) Close() error {
	s.mu.Lock()
	for _, f := range s.files {
		_ = f.Close()
	}
	s.files, s.closed = nil, true
	s.mu.Unlock()
	return s.UnixConn.Close()
}

// SocketPair returns two connected stream sockets: a connection for this process and a file to be inherited
// or sent. Both are close-on-exec.
func SocketPair() (*net.UnixConn, *os.File, error) {
	fds, err := socketpair()
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	other := os.NewFile(uintptr(fds[1]), "data-plane")
	c, err := FileConn(os.NewFile(uintptr(fds[0]), "data-plane"))
	if err != nil {
		_ = other.Close()
		return nil, nil, err
	}
	return c, other, nil
}

// FileConn turns a Unix socket's file into a connection and closes the file in any case.
func FileConn(f *os.File) (*net.UnixConn, error) {
	c, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return nil, fmt.Errorf("open socket of descriptor: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("open socket of descriptor: %T is not a Unix socket", c)
	}
	return u, nil
}
