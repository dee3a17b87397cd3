package workload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

const header2021 = "app,func,end_timestamp,duration\n"

// file is a trace file with a text in it.
func file(name, text string) File { return File{Name: name, Reader: strings.NewReader(text)} }

func TestReadAzure2021SortsByStart(t *testing.T) {
	t.Parallel()
	// Of the real files: spaces at the end, a duration of zero, a start before zero.
	text := "\ufeff" + header2021 +
		"a1,f1,10.5,0.5 \r\n" +
		"a1,f2,12,11\n" +
		"\n" +
		"a2,f1,11.25,0\n" +
		"a2,f1,0.1,5\n" +
		"a1,f1,,\n" +
		"a1,f1,14,1.5\n"
	w, err := ReadAzure2021(file("t.txt", text), TraceConfig{Concurrency: 2})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(collect(t, w))
	if want := "[{1s 1 11s} {10s 0 500ms} {11.25s 2 1µs} {12.5s 0 1.5s}]"; got != want {
		t.Errorf("calls are %s, want %s", got, want)
	}
	if f := w.Functions[0]; f.Mean != time.Second || f.Name != "a1/f1" || f.Concurrency != 2 {
		t.Errorf("function is %+v", f)
	}
	if w.Functions[0].Memory != w.Functions[1].Memory {
		t.Error("two functions of an application differ in memory")
	}
}

func TestReadAzure2021TakesAnInterval(t *testing.T) {
	t.Parallel()
	text := header2021 + "a,f,1,0.5\na,f,11,0.5\na,f,12,0.5\na,f,20,0.5\n"
	w, err := ReadAzure2021(file("t.txt", text), TraceConfig{From: 10 * time.Second, Length: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(collect(t, w)), "[{500ms 0 500ms} {1.5s 0 500ms}]"; got != want || w.Length != 5*time.Second {
		t.Errorf("calls are %s over %s, want %s", got, w.Length, want)
	}
}

func TestReadAzure2021NamesFileAndLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "bad.txt:1: the file is empty"},
		{"no header", "a,f,1,1\n", `bad.txt:1: no column "app"`},
		{"column twice", "app,app,func,end_timestamp,duration\n", `bad.txt:1: column "app" comes twice`},
		{"cut row", header2021 + "a,f,1,1\na,f,1\n", "bad.txt:3: 3 fields, want 4"},
		{"word", header2021 + "a,f,soon,1\n", `bad.txt:2: end_timestamp is "soon"`},
		{"infinite", header2021 + "a,f,1,+Inf\n", `bad.txt:2: duration is "+Inf"`},
		{"negative", header2021 + "a,f,1,-1\n", "bad.txt:2: end_timestamp 1, duration -1: out of range"},
		{"huge", header2021 + "a,f,1e300,1\n", "out of range"},
		{"no function", header2021 + "a,,1,1\n", "bad.txt:2: func is empty"},
		{"binary", header2021 + "\n\n\x00\x01\x02\n", "bad.txt:4: 1 fields"},
		{"long line", header2021 + strings.Repeat("x", lineMax+1), "bad.txt:2: the line is longer than 1048576 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := ReadAzure2021(file("bad.txt", c.text), TraceConfig{})
			if _, ok := errors.AsType[*LineError](err); !ok || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want a LineError with %q", err, c.want)
			}
		})
	}
}

// errBroken is what a broken disk answers.
var errBroken = errors.New("disk is broken")

// broken fails after its text.
type broken struct{ io.Reader }

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = errBroken
	}
	return n, err
}

func TestReadersKeepTheCauseOfAFailedRead(t *testing.T) {
	t.Parallel()
	_, err := ReadAzure2021(File{"t.txt", broken{strings.NewReader(header2021 + "a,f,1,1\n")}}, TraceConfig{})
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "t.txt after line 2") {
		t.Errorf("error is %v", err)
	}
}

func TestReadersAreBounded(t *testing.T) {
	t.Parallel()
	text := header2021 + "a,f,1,1\na,g,2,1\na,g,3,1\n"
	for _, c := range []TraceConfig{{FunctionsMax: 1}, {EntriesMax: 2}} {
		if _, err := ReadAzure2021(file("t.txt", text), c); !errors.Is(err, ErrTooLarge) {
			t.Errorf("with %+v the error is %v", c, err)
		}
		in := row2019("a", map[int]string{1: "1"}) + row2019("b", map[int]string{1: "1", 2: "1"})
		if _, err := ReadAzure2019(Files2019{Invocations: file("i.csv", header2019()+in)}, c); !errors.Is(err, ErrTooLarge) {
			t.Errorf("with %+v the error of 2019 is %v", c, err)
		}
	}
}

func TestSampleTakesWholeApplications(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	text.WriteString(header2021)
	for i := range 4000 {
		fmt.Fprintf(&text, "app%d,f%d,%d,0.5\n", i%1000, i/1000, i+1)
	}
	w, err := ReadAzure2021(File{"t.txt", &text}, TraceConfig{Sample: 0.3, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "functions", float64(len(w.Functions)), 1200, 0.1)
	apps := map[string]int{}
	for _, f := range w.Functions {
		app, _, _ := strings.Cut(f.Name, "/")
		apps[app]++
	}
	for app, n := range apps {
		if n != 4 {
			t.Errorf("%s has %d functions in the sample, want all 4", app, n)
		}
	}
}

func TestTraceConfigIsChecked(t *testing.T) {
	t.Parallel()
	bad := TraceConfig{Sample: 2, From: -1, Length: -1, FunctionsMax: -1, EntriesMax: -1, Concurrency: -1}
	_, err := ReadAzure2021(file("t.txt", header2021), bad)
	_, err2019 := ReadAzure2019(Files2019{Invocations: file("t.csv", header2019())}, bad)
	for _, field := range []string{"Sample", "From", "Length", "FunctionsMax", "EntriesMax", "Concurrency"} {
		if err == nil || !strings.Contains(err.Error(), field) || err2019 == nil || !strings.Contains(err2019.Error(), field) {
			t.Errorf("%v and %v do not both name %s", err, err2019, field)
		}
	}
}

// FuzzReadAzure2021 looks for panics and for workloads that break a promise.
func FuzzReadAzure2021(f *testing.F) {
	f.Add(header2021 + "a,f,10.5,0.5\nb,g,12,0\n")
	f.Add(header2021 + "a,f,,\n,,,\n")
	f.Add("\ufeffapp,func,end_timestamp,duration\r\na,f,1e300,NaN\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ReadAzure2021(file("fuzz", text), TraceConfig{EntriesMax: 1000})
		if err == nil {
			collect(t, w)
		}
	})
}

// BenchmarkReadAzure2021 reports how fast a trace is read.
func BenchmarkReadAzure2021(b *testing.B) {
	var text bytes.Buffer
	text.WriteString(header2021)
	for i := range 10_000 {
		fmt.Fprintf(&text, "%064x,%064x,%d.142570018768,0.134\n", i%100, i%400, i+1)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if _, err := ReadAzure2021(File{"t.txt", bytes.NewReader(text.Bytes())}, TraceConfig{}); err != nil {
			b.Fatal(err)
		}
	}
}
