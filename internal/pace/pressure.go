package pace

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Pressure measures how contended this machine's processors are. The zero value
// is not usable; see NewPressure. It is for one goroutine.
type Pressure struct {
	proc  string
	procs int

	total time.Duration // stalled, at the last reading
	at    time.Time     // zero before the first reading
}

// NewPressure measures with the files of proc, normally /proc, for that many
// processors.
func NewPressure(proc string, procs int) *Pressure {
	return &Pressure{proc: proc, procs: max(procs, 1)}
}

// Measure returns the part of the time since the last call in which something
// that could have run had to wait for a processor. Where the kernel does not
// count that (pressure stall information is off), it is estimated from how much
// more could run just now than there are processors. It reports false when neither
// is known, and for the first call of the former.
func (p *Pressure) Measure(now time.Time) (float64, bool) {
	total, ok := p.stalled()
	if !ok {
		return p.crowd()
	}
	before, at := p.total, p.at
	p.total, p.at = total, now
	if at.IsZero() || !now.After(at) {
		return 0, false
	}
	return clamp(float64(total-before) / float64(now.Sub(at))), true
}

// stalled reads how long ever something had to wait for a processor:
// "some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS".
func (p *Pressure) stalled() (time.Duration, bool) {
	text, err := os.ReadFile(filepath.Join(p.proc, "pressure", "cpu"))
	if err != nil {
		return 0, false
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if !strings.HasPrefix(line, "some ") {
		return 0, false
	}
	_, total, _ := strings.Cut(line, " total=")
	us, err := strconv.ParseInt(strings.TrimSpace(total), 10, 64)
	return time.Duration(us) * time.Microsecond, err == nil
}

// crowd reads the fourth field of loadavg, "RUNNABLE/ALL". As many waiting as
// running counts as full pressure.
func (p *Pressure) crowd() (float64, bool) {
	text, err := os.ReadFile(filepath.Join(p.proc, "loadavg"))
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	if len(fields) < 4 {
		return 0, false
	}
	runnable, _, _ := strings.Cut(fields[3], "/")
	n, err := strconv.Atoi(runnable)
	return clamp(float64(n-p.procs) / float64(p.procs)), err == nil
}

func clamp(v float64) float64 { return min(max(v, 0), 1) }
