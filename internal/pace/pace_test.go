package pace

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

var epoch = time.Unix(1_700_000_000, 0)

func TestLimitFollowsTheProcessors(t *testing.T) {
	t.Parallel()
	l, now := NewLimit(4), epoch
	if n := l.Now(now); n != 4 {
		t.Fatalf("unmeasured limit is %d, want 4", n)
	}
	observe := func(times int, pressure float64, wanted bool) int {
		for range times {
			now = now.Add(100 * time.Millisecond)
			l.Observe(pressure, wanted, now)
		}
		return l.Now(now)
	}
	steps := []struct {
		name     string
		times    int
		pressure float64
		wanted   bool
		want     int
	}{
		{"easy but not wanted", 10, 0, false, 4},
		{"easy and wanted", 10, 0.1, true, 14},
		{"in between", 10, 0.6, true, 14},
		{"crowded once", 1, 0.9, true, 10},
		{"crowded for long", 100, 1, true, 2},
		{"easy again, unwanted", 100, 0, false, 4},
		{"easy for long", 1000, 0, true, 32},
	}
	for _, s := range steps {
		if n := observe(s.times, s.pressure, s.wanted); n != s.want {
			t.Errorf("%s: limit is %d, want %d", s.name, n, s.want)
		}
	}
	if n := l.Now(now.Add(time.Minute)); n != 4 {
		t.Errorf("limit is %d when measurements have stopped, want 4", n)
	}
}

func TestPressureIsMeasured(t *testing.T) {
	t.Parallel()
	const millis = time.Millisecond
	cases := []struct {
		name          string
		first, second map[string]string
		want          float64
		ok            bool
	}{
		{
			"stall information",
			map[string]string{"pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\nfull avg10=0 total=5\n", "loadavg": "9 9 9 90/100 1\n"},
			map[string]string{"pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1025000\nfull avg10=0 total=5\n"},
			0.25, true,
		},
		{"load average", map[string]string{"loadavg": "1 1 1 9/200 77\n"}, map[string]string{"loadavg": "1 1 1 3/200 77\n"}, 0.5, true},
		{"load average, idle", map[string]string{"loadavg": "1 1 1 1/200 77\n"}, nil, 0, true},
		{"nothing", nil, nil, 0, false},
		{"nonsense", map[string]string{"pressure/cpu": "full\n", "loadavg": "x\n"}, nil, 0, false},
		{"more nonsense", map[string]string{"pressure/cpu": "some total=x\n", "loadavg": "1 1 1 x/y 1"}, nil, 0, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write := func(files map[string]string) {
				for name, text := range files {
					path := filepath.Join(dir, name)
					if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			p := NewPressure(dir, 2)
			write(c.first)
			p.Measure(epoch)
			write(c.second)
			if got, ok := p.Measure(epoch.Add(100 * millis)); got != c.want || ok != c.ok {
				t.Errorf("pressure is %v, %v, want %v, %v", got, ok, c.want, c.ok)
			}
		})
	}
}
