package workload

import (
	"iter"
	"time"
)

// mergeBatch is how many calls pass between two workloads at once in a merge: a switch
// of coroutines costs as much as drawing a call, and is paid once per batch.
const mergeBatch = 256

// Merge makes one workload of several: the functions of all, one behind the other, and
// their calls in order. The length is the longest. Of calls at one instant those of
// earlier workloads come first.
func Merge(name string, parts ...Workload) Workload {
	w := Workload{Name: name}
	offsets := make([]int, len(parts))
	for i, p := range parts {
		offsets[i] = len(w.Functions)
		w.Functions = append(w.Functions, p.Functions...)
		w.Length = max(w.Length, p.Length)
	}
	w.Calls = func(yield func(Call) bool) { merge(parts, offsets, yield) }
	return w
}

// cursor is where a merge stands in one part.
type cursor struct {
	next   func() ([]Call, bool)
	batch  []Call
	offset int
}

// head is the next call; false at the end.
func (c *cursor) head() (Call, bool) {
	if len(c.batch) == 0 {
		var ok bool
		if c.batch, ok = c.next(); !ok {
			return Call{}, false
		}
	}
	return c.batch[0], true
}

// merge walks the parts side by side. There are few, so it looks at each.
func merge(parts []Workload, offsets []int, yield func(Call) bool) {
	cursors := make([]cursor, 0, len(parts))
	for i, p := range parts {
		next, stop := iter.Pull(batches(p.Calls))
		defer stop()
		cursors = append(cursors, cursor{next: next, offset: offsets[i]})
	}
	for {
		const end = time.Duration(1<<63 - 1)
		least, first := -1, Call{At: end}
		for i := range cursors {
			if call, ok := cursors[i].head(); ok && call.At < first.At {
				least, first = i, call
			}
		}
		if least < 0 {
			return
		}
		c := &cursors[least]
		c.batch = c.batch[1:]
		first.Function += c.offset
		if !yield(first) {
			return
		}
	}
}

// batches yields the calls in slices that are reused: each is read before the next is
// asked for.
func batches(calls iter.Seq[Call]) iter.Seq[[]Call] {
	return func(yield func([]Call) bool) {
		batch := make([]Call, 0, mergeBatch)
		for call := range calls {
			if batch = append(batch, call); len(batch) == mergeBatch {
				if !yield(batch) {
					return
				}
				batch = batch[:0]
			}
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}
