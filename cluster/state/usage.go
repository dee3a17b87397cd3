package state

import (
	"iter"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
	// keepHours is how long usage stays split by hour; a month's bill can be
	// checked hour by hour.
	keepHours = 35 * day
	// keepDays is how long daily usage stays; a year and a month of grace.
	keepDays = 400 * day
	// keepBoots is how many boots of a node may still deliver reports.
	keepBoots = 8
)

// UsageSpan is what one function consumed in one hour or day. Shared: do not
// change it.
type UsageSpan struct {
	Start time.Time
	// Length is an hour or, for old usage, a day.
	Length time.Duration
	Usage  *clusterpb.Usage
}

// usageMark is the last report that was counted from one boot of a node.
type usageMark struct {
	node      NodeID
	boot, seq uint64
}

// Usage yields the committed usage that starts in [from, to), oldest first
// within hours and within days. An empty app means all.
func (v *View) Usage(from, to time.Time, app AppName) iter.Seq[*UsageSpan] {
	return func(yield func(*UsageSpan) bool) {
		for s := range all(v.usage, "") {
			if s.Start.Before(from) || !s.Start.Before(to) || (app != "" && s.Usage.GetApp() != string(app)) {
				continue
			}
			if !yield(s) {
				return
			}
		}
	}
}

// UsageReported returns the last sequence number that was counted from a boot of
// a node, 0 if none was; a node uses it to see what it must still send.
func (v *View) UsageReported(node NodeID, boot uint64) uint64 {
	m, _ := v.marks.Get(markKey(node, boot))
	if m == nil {
		return 0
	}
	return m.seq
}

// markKey sorts the boots of a node by age.
func markKey(node NodeID, boot uint64) []byte {
	return appendBigEndian(append([]byte(node), '/'), boot)
}

// usageKey puts days before hours, so that merging never meets its own result.
func usageKey(s *UsageSpan) []byte {
	kind := byte('h')
	if s.Length == day {
		kind = 'd'
	}
	b := appendBigEndian([]byte{kind}, uint64(millis(s.Start)))
	return appendFunctionKey(b, AppName(s.Usage.GetApp()), FunctionName(s.Usage.GetFunction()))
}

func spanFromPB(p *clusterpb.UsageSpan) *UsageSpan {
	s := &UsageSpan{Start: fromMillis(p.GetStartUnixMs()), Length: hour, Usage: p.GetUsage()}
	if p.GetDay() {
		s.Length = day
	}
	return s
}

func (s *UsageSpan) toPB() *clusterpb.UsageSpan {
	return &clusterpb.UsageSpan{StartUnixMs: millis(s.Start), Day: s.Length == day, Usage: s.Usage}
}

// recordUsage counts a report once. A boot that is older than all those kept
// counts as a repetition: it is too late to tell.
func (d draft) recordUsage(op *clusterpb.RecordUsage, res *clusterpb.Result) *clusterpb.Refusal {
	node := NodeID(op.GetNode())
	if d.Member(node) == nil {
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_NOT_FOUND, "node %q is not a member", node)
	}
	start := op.GetHourUnixMs()
	if start <= 0 || start%hour.Milliseconds() != 0 || start > d.timeMs+hour.Milliseconds() {
		return invalid("hour_unix_ms %d is not the start of a past hour", start)
	}
	if op.GetSeq() == 0 {
		return invalid("seq must be at least 1")
	}
	for _, u := range op.GetUsage() {
		if err := checkFunctionKey(u.GetApp(), u.GetFunction()); err != nil {
			return invalid("usage: %v", err)
		}
	}
	// From here on the report is well formed; whether it is new decides the mark.
	if !d.markUsage(node, op.GetBoot(), op.GetSeq()) {
		res.Duplicate = true
		return nil
	}
	for _, u := range op.GetUsage() {
		d.addUsage(&UsageSpan{Start: fromMillis(start), Length: hour, Usage: u})
	}
	d.ageUsage()
	return nil
}

// markUsage notes the report and says whether it is new.
func (d draft) markUsage(node NodeID, boot, seq uint64) bool {
	key := markKey(node, boot)
	prefix := string(node) + "/"
	if m, ok := d.marks.Get(key); ok {
		if seq <= m.seq {
			return false
		}
	} else {
		var boots int
		var oldest *usageMark
		for m := range all(d.marks, prefix) {
			if oldest == nil {
				oldest = m
			}
			boots++
		}
		// A node that crashes in a loop must not fill the table.
		if boots >= keepBoots {
			if boot < oldest.boot {
				return false
			}
			d.marks, _, _ = d.marks.Delete(markKey(node, oldest.boot))
		}
	}
	d.marks, _, _ = d.marks.Insert(key, &usageMark{node: node, boot: boot, seq: seq})
	return true
}

// addUsage merges a span into the one of the same time and function.
func (d draft) addUsage(s *UsageSpan) {
	key := usageKey(s)
	if old, ok := d.usage.Get(key); ok {
		s = &UsageSpan{Start: s.Start, Length: s.Length, Usage: sumUsage(old.Usage, s.Usage)}
	}
	d.usage, _, _ = d.usage.Insert(key, s)
}

// ageUsage merges old hours into days and drops old days. Only the oldest spans
// are looked at, so it costs nothing while nothing has aged.
func (d draft) ageUsage() {
	hours, days := d.timeMs-keepHours.Milliseconds(), d.timeMs-keepDays.Milliseconds()
	for s := range all(d.usage, "h") {
		if millis(s.Start) >= hours {
			break
		}
		d.usage, _, _ = d.usage.Delete(usageKey(s))
		start := millis(s.Start) - millis(s.Start)%day.Milliseconds()
		d.addUsage(&UsageSpan{Start: fromMillis(start), Length: day, Usage: s.Usage})
	}
	for s := range all(d.usage, "d") {
		if millis(s.Start) >= days {
			break
		}
		d.usage, _, _ = d.usage.Delete(usageKey(s))
	}
}

// sumUsage makes a new message: both parts may be in older views.
func sumUsage(a, b *clusterpb.Usage) *clusterpb.Usage {
	return &clusterpb.Usage{
		App: a.GetApp(), Function: a.GetFunction(),
		Invocations: a.GetInvocations() + b.GetInvocations(),
		Errors:      a.GetErrors() + b.GetErrors(),
		BilledMs:    a.GetBilledMs() + b.GetBilledMs(),
		MemoryMibMs: a.GetMemoryMibMs() + b.GetMemoryMibMs(),
		CpuMs:       a.GetCpuMs() + b.GetCpuMs(),
		BytesIn:     a.GetBytesIn() + b.GetBytesIn(),
		BytesOut:    a.GetBytesOut() + b.GetBytesOut(),
		ColdStarts:  a.GetColdStarts() + b.GetColdStarts(),
		ColdMs:      a.GetColdMs() + b.GetColdMs(),
	}
}
