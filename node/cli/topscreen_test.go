package cli

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// screen is a topScreen on a terminal that a test holds.
type screen struct {
	*topScreen
	keys chan byte
	news chan topNews
	done chan error

	mu            sync.Mutex
	text          string // guarded by mu; what was drawn last
	width, height int    // guarded by mu
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = string(p) // draw writes once
	return len(p), nil
}

func newScreen(t *testing.T) *screen {
	s := &screen{keys: make(chan byte), news: make(chan topNews), done: make(chan error, 1), width: 80, height: 24}
	s.topScreen = &topScreen{out: s, order: topOrder{by: "calls"}, interval: time.Second, size: func() (int, int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.width, s.height
	}}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { s.done <- s.run(ctx, s.keys, s.news) }() // ends with ctx
	return s
}

// await waits for a text on the screen.
func (s *screen) await(t *testing.T, want string) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		text := s.text
		s.mu.Unlock()
		if strings.Contains(text, want) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("the screen has no %q:\n%s", want, text)
		case <-tick.C:
		}
	}
}

func TestScreenFollowsReportsKeysAndSize(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	s.await(t, "Waiting for the first report")
	s.news <- topNews{top: busyTop("")}
	s.await(t, "cluster 0b1c5a1e")
	s.await(t, "by calls ")
	s.keys <- '9'
	s.await(t, "by p99 ")
	s.keys <- 'r'
	s.await(t, "by p99 reversed")
	s.keys <- 'x' // means nothing
	s.mu.Lock()
	s.width, s.height = 30, 8
	s.mu.Unlock()
	s.await(t, "every 1s, by p99 reversed   q…")
	s.news <- topNews{err: errors.New("connection refused")}
	s.await(t, "as of ")
	s.await(t, "cluster 0b1c5a1e") // what was known stays
	s.news <- topNews{top: busyTop("")}
	s.await(t, "by p99 reversed")
	s.keys <- ctrlC
	if err := <-s.done; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestScreenShowsWhyThereIsNoReport(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	s.news <- topNews{err: errors.New("no node answers")}
	s.await(t, "trying again: no node answers")
	s.keys <- 'q'
	if err := <-s.done; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestScreenEndsWhenTryingAgainCannotHelp(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	s.news <- topNews{err: &client.Error{Problem: wire.Problem{Status: http.StatusForbidden, Code: wire.CodeDenied}}}
	if err := <-s.done; exitCode(t.Context(), err) != ExitDenied {
		t.Errorf("ended with %v", err)
	}
}

// TestFollowTopAsksAgain breaks the first stream after one report.
func TestFollowTopAsksAgain(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, busyTop(""))
	}))
	defer server.Close()
	cfg := client.DefaultConfig()
	cfg.Addresses, cfg.Token = []string{server.URL}, "secret"
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	news, ended := make(chan topNews), make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		followTop(ctx, c, wire.TopQuery{Interval: time.Second}, news)
	}()
	var got []string
	for len(got) < 3 {
		select {
		case n := <-news:
			switch {
			case n.top != nil:
				got = append(got, "report")
			case errors.Is(n.err, client.ErrUnavailable):
				got = append(got, "ended")
			default:
				t.Fatal(n.err)
			}
		case <-ctx.Done():
			t.Fatalf("got %v", got)
		}
	}
	if text := strings.Join(got, " "); text != "report ended report" {
		t.Errorf("got %s", text)
	}
	cancel()
	<-ended
}
