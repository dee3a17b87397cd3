package command

import (
	"sync"
	"time"

	"github.com/covey-dev/covey/plugins/runtime/stdio"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// serverOutput is what a server writes to standard output and standard error. Which call a line belongs to, the
// line itself must say.
type serverOutput struct {
	mu     sync.Mutex
	stderr *stdio.Stderr
	timer  *time.Timer // logs the last line if no other follows
}

// flushAfter is how long the last line waits for being a typed error of a server that does not start.
const flushAfter = 100 * time.Millisecond

// Write logs whole lines. The last one is logged a little later.
func (o *serverOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timer == nil {
		o.timer = time.AfterFunc(flushAfter, o.flush)
	} else {
		o.timer.Reset(flushAfter)
	}
	return o.stderr.Write(p)
}

func (o *serverOutput) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stderr.Flush()
}

// failure is the error that the last output speaks of.
func (o *serverOutput) failure(typ, what string) *covey.Error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stderr.Failure(typ, what)
}
