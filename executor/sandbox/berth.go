//go:build linux && (amd64 || arm64)

package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// berth is what one instance owns besides its processes: a slot, the private
// directory, a cgroup and a network namespace. Directory and cgroup are used
// once; about the namespace see netns.go.
type berth struct {
	slot   uint32
	dir    string
	cgroup *cgroup  // nil where there are none
	net    *os.File // nil where there are none
	parked *Process // nil where none can be; it owns the berth then
}

// berths makes berths ahead of need. Making one takes the kernel longer than
// all the rest of a start.
type berths struct {
	sandbox *Sandbox
	network bool

	ready  chan *berth
	latest atomic.Int64  // when a berth was taken last, in Unix nanoseconds
	few    chan struct{} // wakes fill from its rest when few are ready
	failed chan error    // for takers, while making fails
	used   chan *os.File // network namespaces whose instance is gone
	stop   chan struct{}
	done   sync.WaitGroup
}

// berthsReady covers a burst of starts. An idle berth costs the kernel about
// 100 KB, most of it for the network namespace.
const berthsReady = 8

// refillAfter is how long fill rests after a start. Making a berth and starting
// an instance want the same locks of the kernel (those of cgroups and of network
// namespaces) and the same processors, and only for the latter somebody waits.
// When half of the berths are gone it is a burst, and resting would delay it.
const refillAfter = 25 * time.Millisecond

// startBerths gives the sandbox its berths. It makes a first one to see whether it
// can be done, with a network namespace in it if network is set.
func (s *Sandbox) startBerths(network bool) error {
	b := &berths{
		sandbox: s, network: network, ready: make(chan *berth, berthsReady), few: make(chan struct{}, 1),
		failed: make(chan error), stop: make(chan struct{}), used: make(chan *os.File, berthsReady),
	}
	s.berths = b
	first := make(chan error, 1)
	ownThread(&b.done, func() { b.fill(first) })
	err := <-first
	if err != nil {
		b.close()
		s.berths = nil
	}
	return err
}

// fill ends with close. It runs on a thread of its own, which moves from one new
// network namespace to the next.
func (b *berths) fill(first chan<- error) {
	next, err := b.makeParked()
	first <- err
	if err != nil {
		return
	}
	for {
		if err != nil {
			// Two attempts for each start that finds nothing ready: see take.
			select {
			case b.failed <- err:
			case <-b.stop:
				return
			}
		} else {
			select {
			case b.ready <- next:
			case <-b.stop:
				b.drop(next)
				return
			}
		}
		if !b.rest() {
			return
		}
		next, err = b.makeParked()
	}
}

// makeParked makes a berth with a stage in it, where stages can be parked.
func (b *berths) makeParked() (*berth, error) {
	next, err := b.make()
	if err != nil || !b.sandbox.mode.template {
		return next, err
	}
	if err := b.sandbox.park(next); err != nil {
		return nil, fmt.Errorf("park stage: %w", err)
	}
	return next, nil
}

// makeBare makes a berth without a stage, for an instance that cannot be parked.
func (b *berths) makeBare() (next *berth, err error) {
	var done sync.WaitGroup
	ownThread(&done, func() { next, err = b.make() })
	done.Wait()
	return next, err
}

// drop gives back a berth that was not used.
func (b *berths) drop(old *berth) {
	if old.parked != nil {
		old.parked.Kill()
		return
	}
	b.discard(old)
}

// rest returns when it is time to make another berth, or with false when there
// shall be no more.
func (b *berths) rest() bool {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := refillAfter - time.Since(time.Unix(0, b.latest.Load()))
		if len(b.ready) < berthsReady/2 || wait <= 0 || wait > refillAfter { // the clock was set back
			return true
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-b.few:
		case <-b.stop:
			return false
		}
	}
}

// take returns a berth, waiting for one if none is ready. A first error may be
// older than what has been given back since; a second one is fresh.
func (b *berths) take() (next *berth, err error) {
	b.latest.Store(time.Now().UnixNano())
	if len(b.ready) <= berthsReady/2 {
		select {
		case b.few <- struct{}{}:
		default:
		}
	}
	select {
	case next = <-b.ready:
		return next, nil
	default:
	}
	for range 2 {
		select {
		case next = <-b.ready:
			return next, nil
		case err = <-b.failed:
		}
	}
	return nil, err
}

// close ends the making and discards what was not used.
func (b *berths) close() {
	close(b.stop)
	b.done.Wait()
	for {
		select {
		case left := <-b.ready:
			b.drop(left)
		case ns := <-b.used:
			_ = ns.Close()
		default:
			return
		}
	}
}

// make runs on a thread of its own; see freshNet.
func (b *berths) make() (*berth, error) {
	s := b.sandbox
	slot, err := s.slots.take()
	if err != nil {
		return nil, err
	}
	next := &berth{slot: slot}
	if err := s.makeDir(next); err != nil {
		b.discard(next)
		return nil, err
	}
	if next.cgroup, err = s.tree.create(filepath.Base(next.dir)); err != nil {
		b.discard(next)
		return nil, err
	}
	if b.network {
		if next.net, err = b.freshNet(); err != nil {
			b.discard(next)
			return nil, err
		}
	}
	return next, nil
}

// makeDir makes the private directory.
func (s *Sandbox) makeDir(b *berth) error {
	dir := filepath.Join(s.runDir, strconv.FormatUint(uint64(b.slot), 36))
	dirs := []string{dir}
	if !s.mode.namespaces {
		dirs = append(dirs, filepath.Join(dir, "tmp"))
	}
	for _, dir := range dirs {
		if err := unix.Mkdir(dir, 0o700); err != nil {
			return &os.PathError{Op: "mkdir", Path: dir, Err: err}
		}
		if s.mode.uids {
			uid := int(s.slots.uid(b.slot))
			if err := unix.Lchown(dir, uid, uid); err != nil {
				return &os.PathError{Op: "chown", Path: dir, Err: err}
			}
		}
	}
	b.dir = dir
	return nil
}

// discard gives back what a berth holds; nil is fine.
func (b *berths) discard(old *berth) {
	if old == nil {
		return
	}
	if old.net != nil {
		select {
		case b.used <- old.net:
		default: // more used ones than a burst needs
			_ = old.net.Close()
		}
	}
	old.cgroup.remove()
	if old.dir != "" {
		if err := removeAll(old.dir); err != nil {
			// The slot is lost with its directory, rather than shown to a next owner.
			b.sandbox.log.Warn().Err(err).Msg("private directory not removed")
			return
		}
	}
	b.sandbox.slots.give(old.slot)
}
