package state

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

const (
	// windowTime is far above any proposer's retries, which end with the
	// caller's deadline.
	windowTime = 10 * time.Minute
	// windowCount bounds the window's memory to a few megabytes.
	windowCount = 8192
)

// outcome is the remembered result of a command with an id.
type outcome struct {
	id     string
	timeMs int64
	result *clusterpb.Result
}

// repeated returns the result of an earlier command with the same id, or nil.
// A refusal is remembered too: the answer to one command must not change.
func (v *View) repeated(id string) *clusterpb.Result {
	if id == "" {
		return nil
	}
	o, ok := v.outcomes.Get([]byte(id))
	if !ok {
		return nil
	}
	res := proto.CloneOf(o.result)
	res.Duplicate = true
	return res
}

// remember adds an outcome.
func (d draft) remember(o *outcome) {
	d.outcomes, _, _ = d.outcomes.Insert([]byte(o.id), o)
	d.recent, _, _ = d.recent.Insert(appendBigEndian(nil, o.result.GetIndex()), o)
}

// forget drops outcomes that are too old or too many. It depends on state time
// and the log alone, so all replicas forget alike.
func (d draft) forget() {
	for {
		key, o, ok := d.recent.Root().Minimum()
		if !ok || (d.recent.Len() <= windowCount && o.timeMs >= d.timeMs-windowTime.Milliseconds()) {
			return
		}
		d.recent, _, _ = d.recent.Delete(key)
		d.outcomes, _, _ = d.outcomes.Delete([]byte(o.id))
	}
}
