package sweep

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// colors of the policies' lines, ours first.
func color(i int) string {
	colors := []string{"#d62728", "#7f7f7f", "#c7c7c7", "#1f77b4", "#aec7e8", "#2ca02c", "#98df8a", "#9467bd", "#ff7f0e", "#8c564b", "#000000"}
	return colors[i%len(colors)]
}

// Chart returns an SVG of the geometric mean over what a group varies, on a
// logarithmic scale, or "" when the group has fewer than two cells.
func (rs *Results) Chart(group string) string {
	var cells []*result
	for i := range rs.list {
		if rs.list[i].group == group {
			cells = append(cells, &rs.list[i])
		}
	}
	if len(cells) < 2 {
		return ""
	}
	const width, height, left, top, right, bottom = 720, 400, 50, 30, 170, 40
	highest := 2.0
	for _, c := range cells {
		for _, r := range c.reports {
			highest = max(highest, r.Geometric)
		}
	}
	x := func(i int) float64 { return left + float64(i)*(width-left-right)/float64(len(cells)-1) }
	y := func(v float64) float64 {
		return height - bottom - math.Log(max(v, 1))/math.Log(highest)*(height-top-bottom)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="16" font-size="13">geometric mean of p99 slowdown over %s</text>`+"\n", left, group)
	for v := 1.0; v <= highest; v *= 2 {
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.0f</text>`+"\n", left, y(v), width-right, left-6, y(v)+4, v)
	}
	for i, c := range cells {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%v %s</text>`+"\n", x(i), height-bottom+18, c.at, c.unit)
	}
	ends := cells[len(cells)-1].reports
	order := make([]int, len(ends))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, c int) int { return -cmpFloat(ends[a].Geometric, ends[c].Geometric) })
	for rank, p := range order {
		var points []string
		for i, c := range cells {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(i), y(c.reports[p].Geometric)))
		}
		stroke := 1.5
		if p == 0 {
			stroke = 3
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="%.1f"/>`+"\n", strings.Join(points, " "), color(p), stroke)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s %s</text>`+"\n", width-right+14, top+20+rank*18, color(p), ends[p].Policy, number(ends[p].Geometric))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func cmpFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
