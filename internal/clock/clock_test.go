package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestSkewedClockIsWrongByItsOffset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c Skewed
		if got := c.Now(); !got.Equal(time.Now()) {
			t.Fatalf("unskewed clock reads %v, want %v", got, time.Now())
		}
		for _, d := range []time.Duration{time.Hour, -3 * time.Second, 0} {
			c.Skew(d)
			if got := time.Until(c.Now()); got != d {
				t.Errorf("clock is off by %v, want %v", got, d)
			}
		}
	})
}

func TestSkewedClockStacks(t *testing.T) {
	t.Parallel()
	base := &Skewed{}
	base.Skew(time.Hour)
	c := Skewed{Base: base}
	c.Skew(time.Minute)
	if off := time.Until(c.Now()); off < time.Hour || off > time.Hour+time.Minute {
		t.Errorf("stacked skew is %v, want just under %v", off, time.Hour+time.Minute)
	}
}
