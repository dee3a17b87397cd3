package workload

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	durations2019 = "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,percentile_Average_1," +
		"percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,percentile_Average_100\n"
	memory2019 = "HashOwner,HashApp,SampleCount,AverageAllocatedMb,AverageAllocatedMb_pct1,AverageAllocatedMb_pct5," +
		"AverageAllocatedMb_pct25,AverageAllocatedMb_pct50,AverageAllocatedMb_pct75,AverageAllocatedMb_pct95," +
		"AverageAllocatedMb_pct99,AverageAllocatedMb_pct100\n"
)

// header2019 is the header of a file of invocations.
func header2019() string {
	var b strings.Builder
	b.WriteString("HashOwner,HashApp,HashFunction,Trigger")
	for m := range dayMinutes {
		b.WriteString("," + strconv.Itoa(m+1))
	}
	return b.String() + "\n"
}

// row2019 is a row of invocations with counts by minute, which count from one.
func row2019(function string, counts map[int]string) string {
	var b strings.Builder
	b.WriteString("owner,app," + function + ",http")
	for m := range dayMinutes {
		n, ok := counts[m+1]
		if !ok {
			n = "0"
		}
		b.WriteString("," + n)
	}
	return b.String() + "\n"
}

func TestReadAzure2019SpreadsTheCounts(t *testing.T) {
	t.Parallel()
	w, err := ReadAzure2019(Files2019{
		Invocations: file("i.csv", header2019()+
			row2019("f1", map[int]string{1: "3", 2: "", 1440: " 2 "})+
			row2019("never", nil)+
			row2019("f2", map[int]string{2: "1000"})),
		Durations: file("d.csv", durations2019+
			"owner,app,f1,200,5,100,400,100,100,150,200,250,390,400  \n"+
			"owner,app,other,1,1,1,1,1,1,1,1,1,1,1\n"),
		Memory: file("m.csv", memory2019+"owner,app,5,150.5,1,1,1,1,1,1,1,1\nx,y,1,1,1,1,1,1,1,1,1,1\n"),
	}, TraceConfig{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	calls := collect(t, w)
	if len(w.Functions) != 2 || len(calls) != 1005 || w.Length != 24*time.Hour || w.Name != "i.csv" {
		t.Fatalf("%d functions, %d calls over %s", len(w.Functions), len(calls), w.Length)
	}
	for _, c := range []struct {
		minute int
		want   float64
	}{{0, 3}, {1, 1000}, {1439, 2}} {
		from := time.Duration(c.minute) * time.Minute
		if n := between(calls, from, from+time.Minute); n != c.want {
			t.Errorf("%g calls in minute %d, want %g", n, c.minute, c.want)
		}
	}
	near(t, "calls in the first half of the minute", between(calls, time.Minute, 90*time.Second), 500, 0.1)
	for _, c := range calls {
		if c.Function == 0 && (c.Run < 100*time.Millisecond || c.Run > 400*time.Millisecond) {
			t.Errorf("a run of %s, want 100 ms to 400 ms", c.Run)
		}
	}
	if w.Functions[0].Memory != 150_500_000 || w.Functions[1].Mean <= 0 {
		t.Errorf("functions are %+v", w.Functions)
	}
	if !slices.Equal(calls, collect(t, w)) {
		t.Error("a second walk yields other calls")
	}
}

func TestReadAzure2019TakesAnInterval(t *testing.T) {
	t.Parallel()
	in := header2019() + row2019("f", map[int]string{1: "9", 11: "4", 12: "5", 13: "9"})
	w, err := ReadAzure2019(Files2019{Invocations: file("i.csv", in)},
		TraceConfig{Name: "day", From: 10 * time.Minute, Length: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	calls := collect(t, w)
	if n := between(calls, 0, time.Minute); len(calls) != 9 || n != 4 || w.Name != "day" {
		t.Errorf("%d calls, %g in the first minute; want 9 and 4", len(calls), n)
	}
}

func TestReadAzure2019ToleratesWhatTheFilesLack(t *testing.T) {
	t.Parallel()
	twice := row2019("f", map[int]string{1: "2"})
	w, err := ReadAzure2019(Files2019{
		Invocations: file("i.csv", header2019()+twice+twice),
		Durations:   file("d.csv", durations2019+"owner,app,f,50,4,,-1,,,,,NaN,,\n"),
		Memory:      file("m.csv", memory2019+"owner,app,5,0,,,,,,,,\n"),
	}, TraceConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if calls := collect(t, w); len(calls) != 4 || w.Functions[0].Mean != 50*time.Millisecond {
		t.Errorf("%d calls, functions %+v", len(calls), w.Functions)
	}
}

func TestReadAzure2019NamesFileAndLine(t *testing.T) {
	t.Parallel()
	good := header2019() + row2019("f", map[int]string{1: "1"})
	for _, c := range []struct{ name, calls, durations, memory, want string }{
		{"no minutes", "HashOwner,HashApp,HashFunction,Trigger\n", "", "", `i.csv:1: no column "1"`},
		{"missing minute", strings.Replace(header2019(), ",700,", ",x,", 1), "", "", `i.csv:1: no column "700"`},
		{"cut row", good + "owner,app,f,http,1,2\n", "", "", "i.csv:3: 6 fields, want 1444"},
		{"negative count", header2019() + row2019("f", map[int]string{5: "-1"}), "", "", `i.csv:2: minute 5 is "-1"`},
		{"large count", header2019() + row2019("f", map[int]string{5: "99999999999"}), "", "", "i.csv:2: minute 5"},
		{"no function", header2019() + row2019("", nil), "", "", "i.csv:2: HashFunction is empty"},
		{"durations cut", good, durations2019 + "owner,app,f,1\n", "", "d.csv:2: 4 fields, want 14"},
		{"durations word", good, durations2019 + "owner,app,f,1,1,x,1,1,1,1,1,1,1,1\n", "", `d.csv:2: Minimum is "x"`},
		{"durations huge", good, durations2019 + "owner,app,f,1e30,1,1,1,1,1,1,1,1,1,1\n", "", "d.csv:2: Average is 1e+30 ms"},
		{"memory word", good, durations2019, memory2019 + "owner,app,1,much,1,1,1,1,1,1,1,1\n", `m.csv:2: AverageAllocatedMb is "much"`},
		{"memory header", good, durations2019, "HashOwner,HashApp\n", `m.csv:1: no column "AverageAllocatedMb"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			files := Files2019{Invocations: file("i.csv", c.calls)}
			if c.durations != "" {
				files.Durations = file("d.csv", c.durations)
			}
			if c.memory != "" {
				files.Memory = file("m.csv", c.memory)
			}
			_, err := ReadAzure2019(files, TraceConfig{})
			if _, ok := errors.AsType[*LineError](err); !ok || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want a LineError with %q", err, c.want)
			}
		})
	}
}

func TestSpreadDrawsItsPercentiles(t *testing.T) {
	t.Parallel()
	ms := func(x float64) float64 { return x * 1e6 }
	s := newSpread(ms(30), [len(knots)]float64{0, ms(2), ms(10), ms(20), ms(40), ms(200), ms(1000)})
	r := rand.New(rand.NewPCG(1, 1))
	runs := make([]float64, 100_000)
	var sum float64
	for i := range runs {
		runs[i] = float64(s.run(r))
		sum += runs[i]
	}
	slices.Sort(runs)
	near(t, "first quartile", runs[25_000], ms(10), 0.03)
	near(t, "median", runs[50_000], ms(20), 0.03)
	near(t, "99th percentile", runs[99_000], ms(200), 0.1)
	near(t, "mean", sum/1e5, s.mean, 0.02)
	if s := newSpread(math.NaN(), [len(knots)]float64{3: math.NaN()}); s.mean != 0 {
		t.Errorf("nothing known makes %+v", s)
	}
}

// FuzzReadAzure2019 looks for panics and for workloads that break a promise. The header
// of the invocations is not the fuzzer's: it would not come upon 1,440 columns.
func FuzzReadAzure2019(f *testing.F) {
	f.Add("f", 1, "3", durations2019+"owner,app,f,200,5,100,400,100,100,150,200,250,390,400\n", memory2019)
	f.Add("f", 1440, "", durations2019+"owner,app,f,,,,,,,,,,,\n", memory2019+"owner,app,5,0,,,,,,,,\n")
	f.Add(",", 7, "1,2", durations2019, memory2019+"owner,app,1,-5,,,,,,,,\n")
	f.Fuzz(func(t *testing.T, function string, minute int, count, durations, memory string) {
		if n, err := strconv.Atoi(strings.TrimSpace(count)); err == nil && n > 10_000 {
			t.Skip("only slow")
		}
		w, err := ReadAzure2019(Files2019{
			Invocations: file("i.csv", header2019()+row2019(function, map[int]string{minute: count})),
			Durations:   file("d.csv", durations), Memory: file("m.csv", memory),
		}, TraceConfig{})
		if err == nil {
			collect(t, w)
		}
	})
}

// BenchmarkReadAzure2019 reports how fast invocations are read.
func BenchmarkReadAzure2019(b *testing.B) {
	text := header2019()
	for i := range 100 {
		text += row2019(strconv.Itoa(i), map[int]string{1: "12", 60 * (i%20 + 1): "7"})
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := ReadAzure2019(Files2019{Invocations: file("i.csv", text)}, TraceConfig{}); err != nil {
			b.Fatal(err)
		}
	}
}
