package manifest

import (
	"fmt"
	"strings"
)

// nearest says what was probably meant, or lists what there is.
func nearest(word string, known []string) string {
	plain := func(s string) string { return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s)) }
	best, least := "", 1+len(word)/3
	for _, k := range known {
		if d := distance(plain(word), plain(k)); d <= least && (best == "" || d < distance(plain(word), plain(best))) {
			best = k
		}
	}
	if best != "" {
		return fmt.Sprintf(", did you mean %q?", best)
	}
	return "; there are " + strings.Join(known, ", ")
}

// distance counts the letters to insert, delete or change between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
