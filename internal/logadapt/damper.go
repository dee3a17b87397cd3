package logadapt

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// dampFirst messages of a kind pass, and after them one in dampEvery: a peer
	// that is gone is logged when it goes and now and then, not on each retry.
	dampFirst = 3
	dampEvery = 30 * time.Second
	// dampKinds bounds what is remembered; beyond it everything starts anew.
	dampKinds = 1024
)

// damper thins out what a library repeats. Safe for concurrent use.
type damper struct {
	mu    sync.Mutex
	kinds map[string]*rate.Sometimes // guarded by mu; message and peer
}

// pass reports whether a message is to be logged.
func (d *damper) pass(msg string, args []any) bool {
	kind := msg
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == "peer" || args[i] == "id" {
			kind += " " + fmt.Sprint(render(args[i+1]))
		}
	}
	d.mu.Lock()
	if len(d.kinds) >= dampKinds {
		d.kinds = nil
	}
	if d.kinds == nil {
		d.kinds = map[string]*rate.Sometimes{}
	}
	s := d.kinds[kind]
	if s == nil {
		s = &rate.Sometimes{First: dampFirst, Interval: dampEvery}
		d.kinds[kind] = s
	}
	d.mu.Unlock()
	pass := false
	s.Do(func() { pass = true })
	return pass
}
