package forks

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	firstPause = 20 * time.Microsecond
	lastPause  = time.Millisecond
	mostWait   = time.Second
)

// awaitWriters returns when nobody has the file open for writing: a read lease is given
// only then (fcntl(2), F_SETLEASE). Where there are no leases, the caller's wait for
// the children of this process was all that can be done.
func awaitWriters(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close() // read only
	pause := firstPause
	for waited := time.Duration(0); waited < mostWait; waited += pause {
		_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
		if !errors.Is(err, unix.EAGAIN) {
			break
		}
		time.Sleep(pause)
		pause = min(2*pause, lastPause)
	}
	_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK) // fails if there is none
}
