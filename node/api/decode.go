package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client/wire"
)

const (
	// maxDocument bounds the JSON body of a management request.
	maxDocument = 1 << 20
	// maxDepth bounds its nesting.
	maxDepth = 64
)

// decode reads a strict JSON body into out: no unknown fields, no key twice, no
// second value. What a typing mistake would otherwise drop in silence is an
// error here. An empty body leaves out as it is.
func (c *call) decode(out any) error {
	raw, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxDocument))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return err
		}
		return bodyError(err)
	}
	readUntil(c.w, time.Time{})
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	if err := checkJSON(raw); err != nil {
		return badRequest(err.Error())
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return badRequest("the body does not fit: " + err.Error())
	}
	return nil
}

// checkJSON refuses what encoding/json would let pass: a key twice in one object
// (two readers may take different ones), great depth, and anything after the
// value.
func checkJSON(raw []byte) error {
	// A Decoder alone takes a cut value for an end, and a stray bracket after the
	// value for nothing.
	if !json.Valid(raw) {
		return errors.New("the body is not one JSON value")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var open []map[string]bool // the keys of each object around us; nil for an array
	key := false               // the next token is a key
	for {
		token, err := d.Token()
		if err != nil {
			return fmt.Errorf("the body is not JSON: %w", err)
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				if len(open) == maxDepth {
					return fmt.Errorf("the body is nested deeper than %d", maxDepth)
				}
				var keys map[string]bool
				if t == '{' {
					keys = map[string]bool{}
				}
				open = append(open, keys)
				key = t == '{'
				continue
			}
			open = open[:len(open)-1]
		case string:
			if key {
				keys := open[len(open)-1]
				if keys[t] {
					return fmt.Errorf("the key %q is there twice", t)
				}
				keys[t] = true
				key = false
				continue
			}
		}
		if len(open) == 0 {
			return nil
		}
		key = open[len(open)-1] != nil
	}
}

// reply answers with JSON.
func (c *call) reply(status int, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(raw) // a client that left needs no answer
	return nil
}

// done answers a change that has nothing to say.
func (c *call) done() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// view is the state that a read answers from: the newest here, or with
// ?consistent=true one that no acknowledged write is missing from.
func (s *Server) view(c *call) (*state.View, error) {
	view := s.cfg.Control.View()
	if c.r.URL.Query().Get("consistent") == "true" {
		newest, err := s.cfg.Control.Consistent(c.r.Context())
		if err != nil {
			return nil, fmt.Errorf("read consistently: %w", err)
		}
		view = newest
	}
	c.w.Header().Set(wire.HeaderIndex, strconv.FormatUint(uint64(view.Index()), 10))
	return view, nil
}

// queryTime reads a time from the query: RFC 3339, or a duration back from now.
func (s *Server) queryTime(c *call, key string) (time.Time, error) {
	text := c.r.URL.Query().Get(key)
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return s.cfg.Clock.Now().Add(-d), nil
	}
	return time.Time{}, badRequest(key + " is neither an RFC 3339 time nor a duration")
}
