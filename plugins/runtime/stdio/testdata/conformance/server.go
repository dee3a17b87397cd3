//go:build !wasip1

package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// serve runs the web server if there is a port for one.
func serve() bool {
	port := os.Getenv("PORT")
	if port == "" {
		return false
	}
	s := &server{met: make(map[int]chan struct{}), waiting: make(map[int]int)}
	if err := http.ListenAndServe("127.0.0.1:"+port, s); err != nil {
		fail(err)
	}
	return true
}

// server keeps in memory what the process of a single call keeps in files.
type server struct {
	cancelled atomic.Int64

	mu      sync.Mutex
	met     map[int]chan struct{}
	waiting map[int]int
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if os.Getenv(program.EnvStream) != "" {
		w.Header().Set("Trailer", "X-Covey-Error-Type, X-Covey-Error-Message")
		var f *failure
		if err := handle(payload, w); errors.As(err, &f) {
			w.Header().Set("X-Covey-Error-Type", f.Type)
			w.Header().Set("X-Covey-Error-Message", f.Message)
		}
		return
	}
	var in program.Input
	if err := json.Unmarshal(payload, &in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := s.operate(r, in)
	var f *failure
	if errors.As(err, &f) {
		w.Header().Set("X-Covey-Error-Type", f.Type)
		out = f
	} else if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	body, _ := json.Marshal(out)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// operate runs what differs in a server, and leaves the rest to the process's own.
func (s *server) operate(r *http.Request, in program.Input) (any, error) {
	id := r.Header.Get("X-Covey-Request-Id")
	switch in.Op {
	case program.OpContext:
		return seenIn(r), nil
	case program.OpWait:
		<-r.Context().Done()
		s.cancelled.Add(1)
		return nil, r.Context().Err()
	case program.OpCancelled:
		return program.Output{N: int(s.cancelled.Load())}, nil
	case program.OpMeet:
		return program.Output{N: in.N}, s.meet(r, in.N)
	case program.OpLog:
		logAs(id, in.Data)
		return program.Output{}, nil
	case program.OpInvoke:
		output, err := invokeFor(id, in.Type, []byte(in.Data))
		return program.Output{Data: string(output)}, err
	}
	return operate(in)
}

func seenIn(r *http.Request) program.Seen {
	h := r.Header
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(h.Get(name), 10, 64)
		return n
	}
	s := program.Seen{
		RequestID: h.Get("X-Covey-Request-Id"), App: h.Get("X-Covey-App"), Function: h.Get("X-Covey-Function"),
		Version: uint64(number("X-Covey-Version")), Attempt: int(number("X-Covey-Attempt")), Node: h.Get("X-Covey-Node"),
		Trace: h.Get("Traceparent"), ContentType: h.Get("Content-Type"), Attributes: attributes(h.Get("X-Covey-Attributes")),
	}
	if deadline := number("X-Covey-Deadline-Ms"); deadline > 0 {
		s.RemainingMS = time.Until(time.UnixMilli(deadline)).Milliseconds()
	}
	return s
}

func (s *server) meet(r *http.Request, n int) error {
	s.mu.Lock()
	if s.met[n] == nil {
		s.met[n] = make(chan struct{})
	}
	met := s.met[n]
	s.waiting[n]++
	if s.waiting[n] == n {
		close(met)
	}
	s.mu.Unlock()
	select {
	case <-met:
		return nil
	case <-r.Context().Done():
		return r.Context().Err()
	}
}
