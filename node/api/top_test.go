package api

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestTopStreamsReportsUntilTheyEnd(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	var asked TopQuery
	n.top = func(_ context.Context, q TopQuery) iter.Seq[Top] {
		asked = q
		return func(yield func(Top) bool) {
			for i := range q.Count {
				if !yield(Top{InFlight: i}) {
					return
				}
			}
		}
	}
	w := do(newServer(t, n), "GET", "/v1/top?interval=250ms&count=2", n.reader, "")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	if asked != (TopQuery{Interval: 250 * time.Millisecond, Count: 2}) {
		t.Errorf("asked for %+v", asked)
	}
	lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	var last Top
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || len(lines) != 2 || last.InFlight != 1 {
		t.Errorf("%q: %v", lines, err)
	}
}

func TestTopRefuses(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	s := newServer(t, n)
	for _, c := range []struct {
		query, token string
		code         int
	}{
		{"", n.reader, http.StatusOK},
		{"?interval=1ms", n.reader, http.StatusBadRequest},
		{"?interval=1h", n.reader, http.StatusBadRequest},
		{"?interval=often", n.reader, http.StatusBadRequest},
		{"?count=-1", n.reader, http.StatusBadRequest},
		{"", n.invoker, http.StatusForbidden},
		{"", n.billing, http.StatusForbidden},
		{"", "", http.StatusUnauthorized},
	} {
		if w := do(s, "GET", "/v1/top"+c.query, c.token, ""); w.Code != c.code {
			t.Errorf("%q: %d, want %d", c.query, w.Code, c.code)
		}
	}
}

// TestTopEndsWhenTheNodeDrains: whoever watches must not hold up a stop.
func TestTopEndsWhenTheNodeDrains(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	watching := make(chan struct{})
	n.top = func(ctx context.Context, _ TopQuery) iter.Seq[Top] {
		return func(func(Top) bool) {
			close(watching)
			<-ctx.Done()
		}
	}
	_, address, stop := listen(t, n)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v1/top", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.reader)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-watching
	if err := stop(); err != nil {
		t.Error(err)
	}
}
