package cli

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
)

// topOrder is what rows are sorted by.
type topOrder struct {
	by      string // one of the names in topSorts
	reverse bool
}

// topSort is one order: its name for --sort and its key.
type topSort struct {
	name string
	key  byte
}

// topSorts are the orders that there are; the biggest comes first, but for names.
func topSorts() []topSort {
	return []topSort{
		{"calls", 'c'}, {"name", 'n'}, {"inflight", 'f'}, {"queued", 'u'}, {"warm", 'w'}, {"cold", 'o'}, {"errors", 'e'}, {"p50", '5'}, {"p99", '9'},
	}
}

// topColumn is one column of a table of rows of type T.
type topColumn[T any] struct {
	title string
	left  bool
	// keep tells which columns stay when the terminal is narrow: those with the
	// lowest numbers.
	keep int
	// least is a width that most values fit, so that columns rest where they are.
	least int
	cell  func(T) string
}

func nodeColumns() []topColumn[wire.TopNode] {
	type node = wire.TopNode
	known := func(show func(node) string) func(node) string {
		return func(n node) string {
			if n.Error != "" {
				return "-"
			}
			return show(n)
		}
	}
	number := func(of func(node) int) func(node) string {
		return known(func(n node) string { return strconv.Itoa(of(n)) })
	}
	return []topColumn[node]{
		{"NODE", true, 0, 0, func(n node) string { return n.Name }},
		{"STATE", true, 1, 9, topNodeState},
		{"CPU", false, 5, 4, known(func(n node) string {
			if n.CPUPercent == nil {
				return "-"
			}
			return fmt.Sprintf("%.0f%%", *n.CPUPercent)
		})},
		{"MEMORY", false, 7, 21, known(func(n node) string {
			if n.MemoryBudgetBytes <= 0 {
				return "-"
			}
			return size(n.MemoryUsedBytes) + " of " + size(n.MemoryBudgetBytes)
		})},
		{"IDLE", false, 8, 0, number(func(n node) int { return n.Idle })},
		{"BUSY", false, 6, 0, number(func(n node) int { return n.Busy })},
		{"STARTING", false, 9, 0, number(func(n node) int { return n.Starting })},
		{"IN FLIGHT", false, 3, 0, number(func(n node) int { return n.InFlight })},
		{"QUEUED", false, 4, 0, number(func(n node) int { return n.Queued })},
		{"CALLS/S", false, 2, 0, known(func(n node) string { return rateCell(n.CallsPerSecond) })},
	}
}

// topNodeState is one word for a node; who is alive to gossip but did not answer is
// worth a word of its own.
func topNodeState(n wire.TopNode) string {
	switch {
	case !n.Alive:
		return "silent"
	case n.Error != "":
		return "no answer"
	case n.Draining:
		return "draining"
	case n.Leader:
		return "leader"
	default:
		return "alive"
	}
}

func functionColumns() []topColumn[wire.TopFunction] {
	type function = wire.TopFunction
	return []topColumn[function]{
		{"FUNCTION", true, 0, 0, func(f function) string { return fmt.Sprintf("%s/%s:%d", f.App, f.Function, f.Version) }},
		{"ALIAS", true, 9, 0, func(f function) string { return cell(strings.Join(f.Aliases, ",")) }},
		{"CALLS/S", false, 1, 0, func(f function) string { return rateCell(f.CallsPerSecond) }},
		{"IN FLIGHT", false, 4, 0, func(f function) string { return strconv.Itoa(f.InFlight) }},
		{"QUEUED", false, 5, 0, func(f function) string { return strconv.Itoa(f.Queued) }},
		{"WARM", false, 6, 8, func(f function) string {
			warm := strconv.Itoa(f.Instances)
			if f.Starting > 0 {
				warm += "+" + strconv.Itoa(f.Starting)
			}
			return fmt.Sprintf("%s on %d", warm, f.Nodes)
		}},
		{"COLD", false, 7, 5, func(f function) string {
			if f.ColdRatio == nil {
				return "-"
			}
			return percentCell(*f.ColdRatio)
		}},
		{"ERRORS/S", false, 8, 0, func(f function) string { return rateCell(f.ErrorsPerSecond) }},
		{"P50", false, 3, 8, func(f function) string { return millisCell(f.P50MS) }},
		{"P99", false, 2, 8, func(f function) string { return millisCell(f.P99MS) }},
	}
}

// rateCell shows a rate with what matters of it.
func rateCell(perSecond float64) string {
	switch {
	case perSecond == 0:
		return "0"
	case perSecond < 10:
		return trimZero(strconv.FormatFloat(perSecond, 'f', 1, 64))
	default:
		return strconv.FormatFloat(perSecond, 'f', 0, 64)
	}
}

// percentCell never rounds something to nothing.
func percentCell(ratio float64) string {
	switch percent := 100 * ratio; {
	case percent > 0 && percent < 0.1:
		return "<0.1%"
	case percent > 0 && percent < 10:
		return trimZero(strconv.FormatFloat(percent, 'f', 1, 64)) + "%"
	default:
		return strconv.FormatFloat(math.Floor(percent), 'f', 0, 64) + "%"
	}
}

func millisCell(ms *float64) string {
	switch {
	case ms == nil:
		return "-"
	case *ms >= 10000:
		return fmt.Sprintf("%.1f s", *ms/1000)
	case *ms < 1:
		return fmt.Sprintf("%.2f ms", *ms)
	default:
		return millis(time.Duration(*ms * float64(time.Millisecond)))
	}
}

// sortNodes orders rows; what says nothing about nodes leaves them by name.
func (o topOrder) sortNodes(rows []wire.TopNode) {
	value := map[string]func(*wire.TopNode) float64{
		"calls":    func(n *wire.TopNode) float64 { return n.CallsPerSecond },
		"inflight": func(n *wire.TopNode) float64 { return float64(n.InFlight) },
		"queued":   func(n *wire.TopNode) float64 { return float64(n.Queued) },
		"warm":     func(n *wire.TopNode) float64 { return float64(n.Idle + n.Busy) },
	}[o.by]
	sortTop(o, rows, value, func(n *wire.TopNode) string { return n.Name + " " + n.ID })
}

func (o topOrder) sortFunctions(rows []wire.TopFunction) {
	or := func(p *float64) float64 {
		if p == nil {
			return -1
		}
		return *p
	}
	value := map[string]func(*wire.TopFunction) float64{
		"calls":    func(f *wire.TopFunction) float64 { return f.CallsPerSecond },
		"inflight": func(f *wire.TopFunction) float64 { return float64(f.InFlight) },
		"queued":   func(f *wire.TopFunction) float64 { return float64(f.Queued) },
		"warm":     func(f *wire.TopFunction) float64 { return float64(f.Instances) },
		"cold":     func(f *wire.TopFunction) float64 { return or(f.ColdRatio) },
		"errors":   func(f *wire.TopFunction) float64 { return f.ErrorsPerSecond },
		"p50":      func(f *wire.TopFunction) float64 { return or(f.P50MS) },
		"p99":      func(f *wire.TopFunction) float64 { return or(f.P99MS) },
	}[o.by]
	sortTop(o, rows, value, func(f *wire.TopFunction) string { return fmt.Sprintf("%s/%s:%020d", f.App, f.Function, f.Version) })
}

// sortTop orders by value, the biggest first, then by name, so that rows with
// nothing to tell rest where they are.
func sortTop[T any](o topOrder, rows []T, value func(*T) float64, name func(*T) string) {
	slices.SortStableFunc(rows, func(a, b T) int {
		order, byName := 0, cmp.Compare(name(&a), name(&b))
		switch {
		case value != nil:
			order = cmp.Compare(value(&b), value(&a))
		case o.by == "name":
			order = byName
		}
		if o.reverse {
			order = -order
		}
		return cmp.Or(order, byName)
	})
}

// topTable lays rows out in columns for a width, 0 being any. Columns are left out
// until the rest fits; the first is cut if it alone is too wide.
func topTable[T any](columns []topColumn[T], rows []T, width int) []string {
	cells := make([][]string, len(rows)+1)
	wide := make([]int, len(columns))
	for i, c := range columns {
		cells[0] = append(cells[0], c.title)
		wide[i] = max(len(c.title), c.least)
		for r := range rows {
			text := c.cell(rows[r])
			cells[r+1] = append(cells[r+1], text)
			wide[i] = max(wide[i], len([]rune(text)))
		}
	}
	shown := fitColumns(columns, wide, width)
	lines := make([]string, len(cells))
	for r := range cells {
		var b strings.Builder
		for place, i := range shown {
			text := cells[r][i]
			if place > 0 {
				b.WriteString("  ")
			} else {
				text = cut(text, wide[i])
			}
			pad := strings.Repeat(" ", max(wide[i]-len([]rune(text)), 0))
			if columns[i].left {
				b.WriteString(text + pad)
			} else {
				b.WriteString(pad + text)
			}
		}
		lines[r] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

// fitColumns chooses the columns that fit, and shortens the first one's width if it
// has to be. It keeps names readable before it keeps numbers.
func fitColumns[T any](columns []topColumn[T], wide []int, width int) (shown []int) {
	total := -2
	for i := range columns {
		shown = append(shown, i)
		total += wide[i] + 2
	}
	if width <= 0 {
		return shown
	}
	const readable = 16
	for total-max(wide[0]-readable, 0) > width && len(shown) > 1 {
		drop := slices.MaxFunc(shown, func(a, b int) int { return cmp.Compare(columns[a].keep, columns[b].keep) })
		total -= wide[drop] + 2
		shown = slices.DeleteFunc(shown, func(i int) bool { return i == drop })
	}
	if total > width {
		wide[0] = max(wide[0]-(total-width), 1)
	}
	return shown
}

// cut shortens a text to a width, and shows that it did.
func cut(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:max(width-1, 0)]) + "…"
}

// topHeader is the cluster in some words, which break between them when they must.
func topHeader(top *wire.Top, width int) []string {
	leader := cell(top.Leader)
	if top.Leader == "" {
		leader = "none"
	}
	id := top.ClusterID
	if len(id) > 8 {
		id = id[:8]
	}
	words := []string{
		"cluster " + id, "leader " + leader, fmt.Sprintf("%d of %d nodes alive", top.Alive, len(top.Nodes)),
		rateCell(top.CallsPerSecond) + " calls/s", fmt.Sprintf("%d in flight", top.InFlight), fmt.Sprintf("%d queued", top.Queued),
	}
	lines := []string{""}
	for i, word := range words {
		last := &lines[len(lines)-1]
		switch {
		case i == 0:
			*last = word
		case width > 0 && len([]rune(*last))+3+len([]rune(word)) > width:
			lines = append(lines, word)
		default:
			*last += " · " + word
		}
	}
	if len(top.Missing) > 0 {
		lines = append(lines, "no answer from "+strings.Join(top.Missing, ", ")+": their part lacks below")
	}
	if width > 0 {
		for i := range lines {
			lines[i] = cut(lines[i], width)
		}
	}
	return lines
}

// topLines draws a report for a width, 0 being any, and a height, 0 being any.
func topLines(top *wire.Top, order topOrder, width, height int) []string {
	order.sortNodes(top.Nodes)
	order.sortFunctions(top.Functions)
	lines := append(topHeader(top, width), "")
	nodes := topTable(nodeColumns(), top.Nodes, width)
	functions := []string{"No function was called in this interval, and none has instances."}
	if width > 0 {
		functions[0] = cut(functions[0], width)
	}
	if len(top.Functions) > 0 {
		functions = topTable(functionColumns(), top.Functions, width)
	}
	if height > 0 {
		room := height - len(lines) - 1 // a blank line between the two
		// The nodes get a third, or what the functions leave.
		nodes = shorten(nodes, max(room/3, room-len(functions), 3))
		functions = shorten(functions, max(room-len(nodes), 1))
	}
	lines = append(append(lines, nodes...), "")
	lines = append(lines, functions...)
	if height > 0 && len(lines) > height {
		lines = lines[:height]
	}
	return lines
}

// shorten leaves out the last rows of a table and says how many.
func shorten(lines []string, most int) []string {
	if len(lines) <= most {
		return lines
	}
	kept := max(most-1, 1)
	return append(slices.Clone(lines[:kept]), fmt.Sprintf("… %d more", len(lines)-kept))
}
