package manifest

import (
	"fmt"
	"strings"
)

// nearest says what was probably meant, or lists what there is.
func nearest(word string, known []string) string {
	plain := func(s string) string { return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s)) }
	if len(word) > 100 {
		word = word[:100] // nothing that long is near to anything
	}
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

// distance counts the letters to insert, delete or change between two words, and
// neighbours to swap.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			least := min(change, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				least = min(least, rows[i-2][j-2]+1)
			}
			rows[i][j] = least
		}
	}
	return rows[len(a)][len(b)]
}
