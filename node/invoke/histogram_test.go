package invoke

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBucketsTellTimesWithinASixteenth(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		us := rapid.Int64Range(0, 1<<31-1).Draw(t, "us")
		d := time.Duration(us)*time.Microsecond + time.Duration(rapid.Int64Range(0, 999).Draw(t, "ns"))
		told := middle(bucketOf(d))
		most := max(float64(d)/16, float64(time.Microsecond)/2)
		if off := math.Abs(float64(told - d)); off > most+1 {
			t.Fatalf("%v is told as %v", d, told)
		}
	})
}

func TestBucketsTakeWhatIsBeyondThem(t *testing.T) {
	t.Parallel()
	if b := bucketOf(-time.Second); b != 0 {
		t.Errorf("a negative time is in bucket %d", b)
	}
	if b := bucketOf(100 * time.Hour); b != Buckets-1 {
		t.Errorf("a long time is in bucket %d of %d", b, Buckets)
	}
	if b := bucketOf(1<<31*time.Microsecond - 1); b != Buckets-1 {
		t.Errorf("the longest time is in bucket %d of %d", b, Buckets)
	}
}

func TestQuantilesOfSumsAndDifferences(t *testing.T) {
	t.Parallel()
	var live liveHistogram
	var before, after Histogram
	live.add(time.Hour) // long ago
	live.read(&before)
	for i := range 100 {
		live.add(time.Duration(i+1) * time.Millisecond)
	}
	live.read(&after)
	d := (&VersionTraffic{Times: after, Counts: Counts{Calls: 101}}).Since(&VersionTraffic{Times: before, Counts: Counts{Calls: 1}})
	if d.Calls != 100 || d.Times.Count() != 100 {
		t.Fatalf("%d calls, %d times", d.Calls, d.Times.Count())
	}
	for q, want := range map[float64]time.Duration{0: time.Millisecond, 0.5: 50 * time.Millisecond, 0.99: 99 * time.Millisecond, 1: 100 * time.Millisecond} {
		got := d.Times.Quantile(q)
		if math.Abs(float64(got-want)) > float64(want)/16 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
	var none Histogram
	if got := none.Quantile(0.99); got != 0 {
		t.Errorf("quantile of nothing is %v", got)
	}
	none.Add(&d.Times)
	if none.Count() != 100 {
		t.Errorf("the sum has %d", none.Count())
	}
}
