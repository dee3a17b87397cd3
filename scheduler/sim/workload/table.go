package workload

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"strconv"
	"strings"
)

// lineMax bounds a line. The widest of the real files has 1,440 counts and three
// hashes: under 10 kB.
const lineMax = 1 << 20

// File is a trace file: what is read, and the name that errors give.
type File struct {
	Name   string
	Reader io.Reader
}

// table reads a file of comma-separated values with a header, line by line. The real
// files have no quotes.
type table struct {
	name    string
	scanner *bufio.Scanner
	line    int
	// columns are those of the header, in lower case.
	columns map[string]int
	// fields are the current row's, without spaces around them; valid until the next.
	fields [][]byte
}

// newTable reads the header and wants the columns in it.
func newTable(f File, columns ...string) (*table, error) {
	t := &table{name: f.Name, scanner: bufio.NewScanner(f.Reader), columns: map[string]int{}}
	t.scanner.Buffer(make([]byte, 0, 64<<10), lineMax)
	ok, err := t.next()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &LineError{t.name, 1, errors.New("the file is empty, want a header")}
	}
	var twice []string
	for i, f := range t.fields {
		// Some tools put a byte order mark before the first column.
		name := strings.ToLower(strings.TrimPrefix(string(f), "\ufeff"))
		if _, ok := t.columns[name]; ok {
			twice = append(twice, name)
		}
		t.columns[name] = i
	}
	for _, c := range columns {
		if _, ok := t.columns[strings.ToLower(c)]; !ok {
			return nil, t.errorf("no column %q in the header", c)
		}
	}
	if len(twice) > 0 {
		return nil, t.errorf("column %q comes twice", twice[0])
	}
	return t, nil
}

// next steps to the next line that is not blank; false at the end of the file.
func (t *table) next() (bool, error) {
	for t.scanner.Scan() {
		t.line++
		line := bytes.TrimSpace(t.scanner.Bytes())
		if len(line) == 0 {
			continue
		}
		t.fields = t.fields[:0]
		for more := true; more; {
			var field []byte
			field, line, more = bytes.Cut(line, []byte{','})
			t.fields = append(t.fields, bytes.TrimSpace(field))
		}
		return true, nil
	}
	if err := t.scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
		return false, &LineError{t.name, t.line + 1, fmt.Errorf("the line is longer than %d bytes", lineMax)}
	} else if err != nil {
		return false, fmt.Errorf("read %s after line %d: %w", t.name, t.line, err)
	}
	return false, nil
}

// row steps to the next row and wants as many fields as the header has, but for empty
// ones at the end.
func (t *table) row() (bool, error) {
	ok, err := t.next()
	if !ok || err != nil {
		return false, err
	}
	for len(t.fields) > len(t.columns) && len(t.fields[len(t.fields)-1]) == 0 {
		t.fields = t.fields[:len(t.fields)-1]
	}
	if len(t.fields) != len(t.columns) {
		return false, t.errorf("%d fields, want %d as in the header", len(t.fields), len(t.columns))
	}
	return true, nil
}

// column is the position of one that the header has.
func (t *table) column(name string) int { return t.columns[strings.ToLower(name)] }

// text is a field that must not be empty.
func (t *table) text(name string) (string, error) {
	f := t.fields[t.column(name)]
	if len(f) == 0 {
		return "", t.errorf("%s is empty", name)
	}
	return string(f), nil
}

// number is a field; what is missing (empty, NaN, NA, null) is NaN.
func (t *table) number(name string) (float64, error) {
	f := string(t.fields[t.column(name)])
	switch strings.ToLower(f) {
	case "", "nan", "na", "null":
		return math.NaN(), nil
	}
	x, err := strconv.ParseFloat(f, 64)
	if err != nil || math.IsInf(x, 0) {
		return 0, t.errorf("%s is %.40q, want a number", name, f)
	}
	return x, nil
}

// errorf says what is wrong with the current line.
func (t *table) errorf(format string, args ...any) error {
	return &LineError{t.name, t.line, fmt.Errorf(format, args...)}
}

// hashOf turns names into a number that is the same on every machine, for choosing
// samples and for what a trace does not say about a function.
func hashOf(seed uint64, names ...string) uint64 {
	h := fnv.New64a()
	var b [8]byte
	for i := range b {
		b[i] = byte(seed >> (8 * i))
	}
	h.Write(b[:])
	for _, n := range names {
		io.WriteString(h, n)
		h.Write([]byte{0})
	}
	// FNV's high bits depend little on the last bytes; a finaliser mixes them.
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// unit maps a hash to [0, 1).
func unit(hash uint64) float64 { return float64(hash>>11) / (1 << 53) }
