package invoke

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// The buckets of a histogram: one for each microsecond below 8 µs, then eight for
// each doubling, up to 2^31 µs, which is 36 minutes and more than any call lasts.
// A value that is told as the middle of its bucket is off by at most 1/16.
const (
	subBits = 3
	sub     = 1 << subBits
	// Buckets is how many counts a Histogram has.
	Buckets = (31 - subBits + 1) * sub
)

// Histogram counts response times by bucket. Histograms of several nodes, or the
// difference between two moments of one, are made by adding and subtracting the
// counts. The zero value is empty.
type Histogram [Buckets]uint64

// bucketOf is the place of a duration among the buckets.
func bucketOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	if us < sub {
		return int(us)
	}
	shift := bits.Len64(us) - 1 - subBits
	return min((shift+1)*sub+int(us>>shift)&(sub-1), Buckets-1)
}

// middle is what a value in a bucket is told as.
func middle(bucket int) time.Duration {
	if bucket < sub {
		return time.Duration(bucket)*time.Microsecond + time.Microsecond/2
	}
	shift := bucket/sub - 1
	low := time.Duration(sub+bucket%sub) << shift
	return low*time.Microsecond + time.Microsecond<<shift/2
}

// Count is how many values were counted.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h {
		n += c
	}
	return n
}

// Add adds another's counts.
func (h *Histogram) Add(o *Histogram) {
	for i, c := range o {
		h[i] += c
	}
}

// Quantile is the time that the part q (0 to 1) of the values did not exceed. It
// is off by at most 1/16 of the value, or half a microsecond, and zero for an
// empty histogram.
func (h *Histogram) Quantile(q float64) time.Duration {
	n := h.Count()
	if n == 0 {
		return 0
	}
	rank := min(max(uint64(math.Ceil(q*float64(n))), 1), n)
	for bucket, c := range h {
		if rank <= c {
			return middle(bucket)
		}
		rank -= c
	}
	return middle(Buckets - 1)
}

// liveHistogram is a Histogram that many goroutines add to.
type liveHistogram [Buckets]atomic.Uint64

func (l *liveHistogram) add(d time.Duration) { l[bucketOf(d)].Add(1) }

func (l *liveHistogram) read(into *Histogram) {
	for i := range l {
		into[i] = l[i].Load()
	}
}
