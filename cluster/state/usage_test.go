package state

import (
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// hourOf is the start of the hour that the lab's time begins in.
const hourOf = epoch - epoch%3_600_000

func total(v *View, from, to time.Time, app AppName) (spans int, invocations uint64) {
	for s := range v.Usage(from, to, app) {
		spans++
		invocations += s.Usage.GetInvocations()
	}
	return spans, invocations
}

func TestUsageReportsCountOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(member("n1"))
	l.ok(member("n2"))
	l.ok(usage("n1", 1, 1, hourOf, "cart", 5))
	if res := l.ok(usage("n1", 1, 1, hourOf, "cart", 5)); !res.GetDuplicate() {
		t.Fatal("the second report is not a repetition")
	}
	l.ok(usage("n2", 1, 1, hourOf, "cart", 2))
	l.ok(usage("n1", 2, 1, hourOf, "cart", 1))
	// A report of an earlier boot that lay in the journal.
	l.ok(usage("n1", 1, 2, hourOf, "cart", 10))
	start := time.UnixMilli(hourOf)
	if spans, n := total(l.view(), start, start.Add(hour), "shop"); spans != 1 || n != 18 {
		t.Fatalf("%d spans with %d invocations, want 1 with 18", spans, n)
	}
	if spans, _ := total(l.view(), start.Add(hour), start.Add(2*hour), "shop"); spans != 0 {
		t.Fatal("the next hour has usage")
	}
	if spans, _ := total(l.view(), start, start.Add(hour), "other"); spans != 0 {
		t.Fatal("another app has usage")
	}
	if got := l.view().UsageReported("n1", 1); got != 2 {
		t.Fatalf("the last report of boot 1 is %d, want 2", got)
	}
	l.ok(removeMember("n1"))
	if got := l.view().UsageReported("n1", 1); got != 0 {
		t.Fatal("the marks of a removed node stay")
	}
	if _, n := total(l.view(), start, start.Add(hour), ""); n != 18 {
		t.Fatal("usage went with the node")
	}
}

func TestUsageReportsAreChecked(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.no(usage("n1", 1, 1, hourOf, "cart", 1), codeNotFound, "n1")
	l.ok(member("n1"))
	l.no(usage("n1", 1, 1, hourOf+1, "cart", 1), codeInvalid, "start of a past hour")
	l.no(usage("n1", 1, 1, hourOf+2*hour.Milliseconds(), "cart", 1), codeInvalid, "past hour")
	l.no(usage("n1", 1, 0, hourOf, "cart", 1), codeInvalid, "seq")
	l.no(usage("n1", 1, 1, hourOf, "no/name", 1), codeInvalid, "no/name")
}

func TestUsageBootsAreBounded(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(member("n1"))
	for boot := uint64(1); boot <= keepBoots+2; boot++ {
		l.ok(usage("n1", boot, 1, hourOf, "cart", 1))
	}
	if got := l.view().marks.Len(); got != keepBoots {
		t.Fatalf("%d marks are kept, want %d", got, keepBoots)
	}
	if res := l.ok(usage("n1", 1, 2, hourOf, "cart", 1)); !res.GetDuplicate() {
		t.Fatal("a report from a forgotten boot was counted")
	}
}

func TestOldUsageMergesIntoDaysAndThenGoes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ok(member("n1"))
	midnight := epoch - epoch%day.Milliseconds()
	for i := range int64(24) {
		l.ok(usage("n1", 1, uint64(i+1), midnight-day.Milliseconds()+i*hour.Milliseconds(), "cart", 1))
	}
	from := time.UnixMilli(midnight).Add(-day)
	if spans, n := total(l.view(), from, from.Add(day), ""); spans != 24 || n != 24 {
		t.Fatalf("%d spans with %d invocations", spans, n)
	}
	later := func(seq uint64, after time.Duration) {
		l.now = midnight + after.Milliseconds()
		l.ok(usage("n1", 1, seq, midnight+after.Milliseconds(), "later", 1))
	}
	later(30, keepHours)
	if spans, n := total(l.view(), from, from.Add(day), ""); spans != 1 || n != 24 {
		t.Fatalf("after %v: %d spans with %d invocations, want one day with 24", keepHours, spans, n)
	}
	for s := range l.view().Usage(from, from.Add(day), "") {
		if s.Length != day || s.Usage.GetBilledMs() != 240 || s.Usage.GetFunction() != "cart" {
			t.Fatalf("the day is %+v", s)
		}
	}
	later(31, keepDays)
	if spans, _ := total(l.view(), from, from.Add(day), ""); spans != 0 {
		t.Fatal("a day outlived its time")
	}
}

func TestSumUsageAddsEveryField(t *testing.T) {
	t.Parallel()
	one := &clusterpb.Usage{App: "a", Function: "f"}
	m := one.ProtoReflect()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.Number() > 2 {
			m.Set(f, protoreflect.ValueOfUint64(uint64(f.Number())))
		}
	}
	sum := sumUsage(one, one).ProtoReflect()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Number() > 2 && sum.Get(f).Uint() != 2*uint64(f.Number()) {
			t.Errorf("%s is %d, want %d", f.Name(), sum.Get(f).Uint(), 2*f.Number())
		}
	}
}
