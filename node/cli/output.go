package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/covey-dev/covey/node/cli/manifest"
)

// printJSON writes a value for programs.
func (a *app) printJSON(value any) error {
	e := json.NewEncoder(a.env.Stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// table collects rows and writes them in columns.
type table struct {
	rows [][]string
}

func newTable(columns ...string) *table { return &table{rows: [][]string{columns}} }

func (t *table) row(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = cell(c)
	}
	t.rows = append(t.rows, row)
}

// cell shows one value in a column; nothing is left blank, so that columns can be
// cut apart.
func cell(value any) string {
	switch v := value.(type) {
	case time.Time:
		if v.IsZero() {
			return "never"
		}
		return v.Local().Format("2006-01-02 15:04:05")
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case string:
		if v == "" {
			return "-"
		}
		return v
	default:
		return fmt.Sprint(v)
	}
}

func (t *table) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// say writes a message for people.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.env.Stderr, format+"\n", args...)
}

// size shows bytes as people do.
func size[T ~int | ~int64 | ~uint64](n T) string {
	const unit = 1024
	value := float64(n)
	if value < unit {
		return strconv.FormatInt(int64(n), 10) + " B"
	}
	for _, suffix := range []string{"KiB", "MiB", "GiB"} {
		value /= unit
		if value < unit {
			return trimZero(strconv.FormatFloat(value, 'f', 1, 64)) + " " + suffix
		}
	}
	return trimZero(strconv.FormatFloat(value/unit, 'f', 1, 64)) + " TiB"
}

func trimZero(s string) string { return strings.TrimSuffix(s, ".0") }

// bytesValue is a flag that takes "64MiB", "64M", "1GiB" or plain bytes.
type bytesValue uint64

func (b *bytesValue) String() string {
	if *b == 0 {
		return "0"
	}
	return strings.ReplaceAll(size(uint64(*b)), " ", "")
}

func (b *bytesValue) Type() string { return "size" }

// Set reads a size. Units are powers of 1024, with or without the "i".
func (b *bytesValue) Set(text string) error {
	n, err := manifest.ParseSize(text)
	if err != nil {
		return err
	}
	*b = bytesValue(n)
	return nil
}

// millis shows a duration in milliseconds, with what matters of it.
func millis(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms >= 100:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	case ms >= 1:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	default:
		return strconv.FormatFloat(ms, 'f', 3, 64) + " ms"
	}
}
