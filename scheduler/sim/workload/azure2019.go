package workload

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// dayMinutes is how many counts a row of the 2019 trace has.
const dayMinutes = 1440

// Files2019 are the files of one day of the 2019 trace. The days of a longer workload
// come one after the other, each as a workload of its own.
type Files2019 struct {
	// Invocations is invocations_per_function_md.anon.dNN.csv.
	Invocations File
	// Durations is function_durations_percentiles.anon.dNN.csv. Without a Reader, and
	// for functions that it lacks, runs are drawn from the published distribution.
	Durations File
	// Memory is app_memory_percentiles.anon.dNN.csv, which days 13 and 14 lack. Without
	// a Reader, and for applications that it lacks, memory comes from the published fit.
	Memory File
}

// ReadAzure2019 reads a day of the Azure Functions trace of 2019. The trace has counts
// per minute: the calls of a minute are spread over it evenly at random. It has
// percentiles of runs: each run is drawn between them.
//
// A function without calls in the interval is left out, an empty count is a zero, and
// a negative or missing duration or memory counts as one that the trace lacks. A row
// that comes twice adds its counts. Any other damage is a *LineError.
func ReadAzure2019(files Files2019, c TraceConfig) (Workload, error) {
	if err := c.check(files.Invocations.Name); err != nil {
		return Workload{}, fmt.Errorf("azure 2019 trace: %w", err)
	}
	if c.Length == 0 {
		c.Length = max(dayMinutes*time.Minute-c.From, 0)
	}
	r := &reader2019{config: c, index: map[functionKey]int{}, st: &stream{seed: c.Seed, length: c.Length.Seconds()}}
	// The invocations come first: they say which functions the rest is wanted of.
	if err := r.invocations(files.Invocations); err != nil {
		return Workload{}, err
	}
	r.spread = make([]spread, len(r.keys))
	if files.Durations.Reader != nil {
		if err := r.durations(files.Durations); err != nil {
			return Workload{}, err
		}
	}
	memory := map[[2]string]int64{}
	if files.Memory.Reader != nil {
		var err error
		if memory, err = r.memory(files.Memory); err != nil {
			return Workload{}, err
		}
	}
	return r.workload(memory), nil
}

// functionKey is how the trace names a function.
type functionKey struct{ owner, app, name string }

// reader2019 is a day of the 2019 trace half read.
type reader2019 struct {
	config  TraceConfig
	index   map[functionKey]int
	keys    []functionKey
	st      *stream
	spread  []spread
	entries int
}

// invocations reads the counts per minute.
func (r *reader2019) invocations(f File) error {
	t, err := newTable(f, "HashOwner", "HashApp", "HashFunction", "Trigger", "1", strconv.Itoa(dayMinutes))
	if err != nil {
		return err
	}
	minutes := make([]int, dayMinutes)
	for m := range minutes {
		column, ok := t.columns[strconv.Itoa(m+1)]
		if !ok {
			return t.errorf("no column %q in the header", strconv.Itoa(m+1))
		}
		minutes[m] = column
	}
	for {
		ok, err := t.row()
		if !ok || err != nil {
			return err
		}
		if err := r.takeInvocations(t, minutes); err != nil {
			return err
		}
	}
}

// takeInvocations reads a row of counts.
func (r *reader2019) takeInvocations(t *table, minutes []int) error {
	key, err := t.key()
	if err != nil {
		return err
	}
	from, until := r.config.From.Seconds(), (r.config.From + r.config.Length).Seconds()
	var counts []minuteCount
	for m, column := range minutes {
		f := t.fields[column]
		if len(f) == 0 || len(f) == 1 && f[0] == '0' {
			continue
		}
		n, err := strconv.ParseUint(string(f), 10, 32)
		if err != nil {
			return t.errorf("minute %d is %.40q, want a count", m+1, f)
		}
		if start := 60 * float64(m); n > 0 && start >= from && start < until {
			counts = append(counts, minuteCount{minute: uint32(m), count: uint32(n)})
		}
	}
	if len(counts) == 0 || !r.config.sampled(key.owner+key.app) {
		return nil
	}
	return r.add(t.name, key, counts)
}

// add keeps the counts of a function. The minutes before From are gone; those kept are
// shifted by it in the walk.
func (r *reader2019) add(file string, key functionKey, counts []minuteCount) error {
	if r.entries += len(counts); r.entries > r.config.EntriesMax {
		return tooLarge(file, "EntriesMax", r.config.EntriesMax)
	}
	offset := r.config.From.Seconds()
	i, known := r.index[key]
	if !known {
		if i = len(r.keys); i == r.config.FunctionsMax {
			return tooLarge(file, "FunctionsMax", r.config.FunctionsMax)
		}
		r.index[key] = i
		r.keys = append(r.keys, key)
	}
	r.st.sources = append(r.st.sources, source{counts: counts, offset: offset, pick: one(i)})
	return nil
}

// durations reads the percentiles of the runs.
func (r *reader2019) durations(f File) error {
	names := []string{
		"Minimum", "percentile_Average_1", "percentile_Average_25", "percentile_Average_50",
		"percentile_Average_75", "percentile_Average_99", "Maximum",
	}
	t, err := newTable(f, append([]string{"HashOwner", "HashApp", "HashFunction", "Average"}, names...)...)
	if err != nil {
		return err
	}
	for {
		ok, err := t.row()
		if !ok || err != nil {
			return err
		}
		key, err := t.key()
		if err != nil {
			return err
		}
		average, err := t.milliseconds("Average")
		if err != nil {
			return err
		}
		var points [len(knots)]float64
		for i, name := range names {
			if points[i], err = t.milliseconds(name); err != nil {
				return err
			}
		}
		if i, ok := r.index[key]; ok {
			r.spread[i] = newSpread(average, points)
		}
	}
}

// memory reads the mean memory of the applications, in bytes.
func (r *reader2019) memory(f File) (map[[2]string]int64, error) {
	t, err := newTable(f, "HashOwner", "HashApp", "AverageAllocatedMb")
	if err != nil {
		return nil, err
	}
	memory := map[[2]string]int64{}
	for _, k := range r.keys {
		memory[[2]string{k.owner, k.app}] = 0
	}
	for {
		ok, err := t.row()
		if !ok || err != nil {
			return memory, err
		}
		owner, err := t.text("HashOwner")
		if err != nil {
			return nil, err
		}
		app, err := t.text("HashApp")
		if err != nil {
			return nil, err
		}
		mb, err := t.number("AverageAllocatedMb")
		if err != nil {
			return nil, err
		}
		// Only of applications that are called, which bounds the map.
		if _, called := memory[[2]string{owner, app}]; called && mb > 0 {
			memory[[2]string{owner, app}] = int64(min(max(mb*1e6, 1e6), 1e15))
		}
	}
}

// workload finishes the day.
func (r *reader2019) workload(memory map[[2]string]int64) Workload {
	for i, k := range r.keys {
		f := r.config.function(k.owner+k.app, k.name)
		f.Name = short(k.app) + "/" + short(k.name)
		if m := memory[[2]string{k.owner, k.app}]; m > 0 {
			f.Memory = m
		}
		if r.spread[i].mean == 0 {
			u := unit(hashOf(r.config.Seed, "run", k.owner, k.app, k.name))
			r.spread[i].mean = float64(meanRun(u, time.Minute))
		}
		f.Mean = max(time.Duration(r.spread[i].mean), time.Microsecond)
		r.st.functions = append(r.st.functions, f)
	}
	r.st.spread = r.spread
	return r.st.workload(r.config.Name, r.config.Length)
}

// key reads the names of a function.
func (t *table) key() (functionKey, error) {
	var k functionKey
	var err error
	if k.owner, err = t.text("HashOwner"); err != nil {
		return k, err
	}
	if k.app, err = t.text("HashApp"); err != nil {
		return k, err
	}
	k.name, err = t.text("HashFunction")
	return k, err
}

// milliseconds reads a time as nanoseconds. What is missing or negative is NaN; what is
// longer than a month is damage.
func (t *table) milliseconds(name string) (float64, error) {
	ms, err := t.number(name)
	if err != nil {
		return 0, err
	}
	if ms > 31*24*3600e3 {
		return 0, t.errorf("%s is %g ms, longer than a month", name, ms)
	}
	if !(ms >= 0) {
		return math.NaN(), nil
	}
	return ms * 1e6, nil
}
