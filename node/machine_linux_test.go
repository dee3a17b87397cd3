package node

import "testing"

func TestTicksOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, stat  string
		busy, total uint64
	}{
		{"a usual machine", "cpu  10 1 5 100 20 2 3 4 7 7\ncpu0 1 1 1 1\n", 25, 145},
		{"an old kernel", "cpu 1 2 3 4\n", 6, 10},
		{"nothing", "", 0, 0},
		{"something else", "intr 1 2 3 4 5\n", 0, 0},
		{"no numbers", "cpu 1 2 x 4\n", 0, 0},
	} {
		if busy, total := ticksOf([]byte(c.stat)); busy != c.busy || total != c.total {
			t.Errorf("%s: %d of %d, want %d of %d", c.name, busy, total, c.busy, c.total)
		}
	}
}
