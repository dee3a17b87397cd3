package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// row is one figure. Ratio and CPURatio are against the reference of the same
// callers and bytes; zero means that there is none.
type row struct {
	Name        string  `json:"name"`
	Callers     int     `json:"callers"`
	Bytes       int     `json:"bytes"`
	Value       float64 `json:"value"`
	Unit        string  `json:"unit"`
	Ratio       float64 `json:"ratio"`
	CPUUS       float64 `json:"cpu_us"`
	ClientCPUUS float64 `json:"client_cpu_us"`
	CPURatio    float64 `json:"cpu_ratio"`
	// Spread is the least and greatest round, P50 and P99 latencies in ms; they
	// are printed and not part of the file's fixed fields.
	spread   [2]float64
	p50, p99 float64
	note     string
}

type report struct{ rows []row }

func (r *report) add(rows ...row) { r.rows = append(r.rows, rows...) }

// print writes the table for people.
func (r *report) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\nrow\tcallers\tbytes\tvalue\tunit\trounds\tratio\tp50 ms\tp99 ms\tcpu µs\tclient µs\tcpu ratio\t")
	for _, x := range r.rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t  %s\n",
			x.Name, whole(x.Callers), whole(x.Bytes), number(x.Value), x.Unit, spread(x.spread), number(x.Ratio),
			number(x.p50), number(x.p99), number(x.CPUUS), number(x.ClientCPUUS), number(x.CPURatio), x.note)
	}
	_ = t.Flush()
}

func (r *report) write(path string) error {
	raw, err := json.MarshalIndent(r.rows, "", "  ")
	if err != nil {
		return fmt.Errorf("encode figures: %w", err)
	}
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, append(raw, '\n'), 0o644))
}

func whole(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func number(x float64) string {
	switch {
	case x == 0:
		return "-"
	case x >= 1000:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.3f", x)
	}
}

func spread(s [2]float64) string {
	if s[1] == 0 {
		return "-"
	}
	return number(s[0]) + "–" + number(s[1])
}

// median returns the middle of xs, zero for none. It sorts a copy.
func median(xs []float64) float64 { return quantile(xs, 0.5) }

// quantile returns the value below which the share q of xs lies.
func quantile(xs []float64, q float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(xs))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

// machine names what the figures were measured on.
func machine() string {
	model := runtime.GOARCH
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%s, %d processors, Linux %s, %s", model, runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version())
}
