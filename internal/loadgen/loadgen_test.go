package loadgen

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = w.Write(body)
}

func TestRunSendsExactlyTheCallsAsked(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Test") != "yes" || r.URL.Path != "/p" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		seen.Add(1)
		echo(w, r)
	})
	r, err := Run(t.Context(), Load{Addr: addr, Path: "/p", Header: []string{"X-Test: yes"}, Body: make([]byte, 100), WantBody: 100, Callers: 4, Duration: time.Minute, Calls: 103})
	if err != nil {
		t.Fatal(err)
	}
	if r.Calls != 103 || r.Errors != 0 || seen.Load() != 103 {
		t.Errorf("%d calls, %d errors (%v), %d seen; want 103", r.Calls, r.Errors, r.FirstError, seen.Load())
	}
	if r.P50 <= 0 || r.P99 < r.P50 || r.PerSecond() <= 0 || r.CPUPerCall() <= 0 {
		t.Errorf("implausible figures: %+v", r)
	}
}

func TestRunCountsWrongAnswersAsErrors(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) % 4 {
		case 0:
			http.Error(w, "no capacity", http.StatusTooManyRequests)
		case 1:
			_, _ = io.WriteString(w, "short")
		case 2:
			panic(http.ErrAbortHandler) // cuts the connection
		default:
			echo(w, r)
		}
	})
	r, err := Run(t.Context(), Load{Addr: addr, Body: make([]byte, 10), WantBody: 10, Callers: 1, Duration: time.Minute, Calls: 40})
	if err != nil {
		t.Fatal(err)
	}
	if r.Calls != 10 || r.Errors != 30 || r.FirstError == nil {
		t.Errorf("%d calls, %d errors (%v); want 10 and 30", r.Calls, r.Errors, r.FirstError)
	}
}

func TestRunEndsByDuration(t *testing.T) {
	t.Parallel()
	r, err := Run(t.Context(), Load{Addr: serve(t, echo), WantBody: 0, Callers: 2, Duration: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.Calls == 0 || r.Errors != 0 {
		t.Errorf("%d calls, %d errors (%v)", r.Calls, r.Errors, r.FirstError)
	}
}

func TestRunRefusesALoadWithoutBounds(t *testing.T) {
	t.Parallel()
	if _, err := Run(t.Context(), Load{}); err == nil {
		t.Error("an empty load was run")
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var xs []time.Duration
	if got := Percentile(xs, 0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	for i := range 100 {
		xs = append(xs, time.Duration(i+1))
	}
	for p, want := range map[float64]time.Duration{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := Percentile(xs, p); got != want {
			t.Errorf("p%v = %v, want %v", p, got, want)
		}
	}
}
