package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/access"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/invoke"
)

// signOfLife is how often a followed log sends an empty line when nothing was
// logged, so that a client that is gone is noticed and proxies stay awake.
const signOfLife = 15 * time.Second

// logs serves GET …/logs as lines of JSON, with ?follow=true until the client
// leaves or the node drains.
func (s *Server) logs(c *call) error {
	query, err := s.logQuery(c)
	if err != nil {
		return err
	}
	readUntil(c.w, time.Time{})
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	if query.Follow {
		defer context.AfterFunc(s.quiet, cancel)()
	}
	out := &lineWriter{w: c.w, flush: query.Follow}
	if query.Follow {
		out.start() // the client learns that it is heard before the first line
		defer out.keepAlive(ctx, cancel)()
	}
	for line, err := range s.cfg.Operations.Logs(ctx, query) {
		if err != nil {
			if !out.started() && ctx.Err() == nil {
				return err
			}
			if ctx.Err() == nil {
				s.log.Warn().Err(err).Str("invocation", c.id).Msg("log stream broke off")
				panic(http.ErrAbortHandler) // so that the client does not take it for whole
			}
			break
		}
		if err := out.write(line); err != nil {
			break // the client left
		}
	}
	if !out.started() {
		out.start()
	}
	return nil
}

// logQuery reads the query of a log request. A function that does not exist is an
// error here, because following it would wait for ever.
func (s *Server) logQuery(c *call) (LogQuery, error) {
	values := c.r.URL.Query()
	query := LogQuery{App: string(appOf(c.r)), Function: c.r.PathValue("name"), RequestID: values.Get("request")}
	switch values.Get("follow") {
	case "", "false":
	case "true":
		query.Follow = true
	default:
		return query, badRequest("follow is neither true nor false")
	}
	if text := values.Get("tail"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return query, badRequest("tail is not a number of lines")
		}
		query.Tail = n
	}
	since, err := s.queryTime(c, "since")
	if err != nil {
		return query, err
	}
	query.Since = since
	if query.Function != "" {
		if _, err := s.function(c); err != nil {
			return query, err
		}
	}
	return query, nil
}

// usage serves GET /v1/usage. A caller who is confined to an app gets that app.
func (s *Server) usage(c *call) error {
	values := c.r.URL.Query()
	query := UsageQuery{App: values.Get("app"), Function: values.Get("function")}
	if c.who.App != "" && query.App == "" {
		query.App = string(c.who.App)
	}
	if !c.who.Sees(state.AppName(query.App)) {
		return access.ErrDenied
	}
	var err error
	if query.Since, err = s.queryTime(c, "since"); err != nil {
		return err
	}
	if query.Until, err = s.queryTime(c, "until"); err != nil {
		return err
	}
	report, err := s.cfg.Operations.Usage(c.r.Context(), query)
	if err != nil {
		return err
	}
	if report.Rows == nil {
		report.Rows = []wire.UsageRow{}
	}
	return c.reply(http.StatusOK, report)
}

// The bounds of the interval of GET /v1/top: each report asks all nodes, and a
// client shall notice within a minute that a node is gone.
const (
	minTopInterval = 100 * time.Millisecond
	maxTopInterval = time.Minute
)

// top serves GET /v1/top as lines of JSON, one at the end of each interval, until
// the client leaves or the node drains.
func (s *Server) top(c *call) error {
	query, err := topQuery(c)
	if err != nil {
		return err
	}
	readUntil(c.w, time.Time{})
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	defer context.AfterFunc(s.quiet, cancel)()
	out := &lineWriter{w: c.w, flush: true}
	out.start()
	defer out.keepAlive(ctx, cancel)()
	for report := range s.cfg.Operations.Top(ctx, query) {
		if err := out.write(report); err != nil {
			break // the client left
		}
	}
	return nil
}

func topQuery(c *call) (TopQuery, error) {
	values := c.r.URL.Query()
	query := TopQuery{Interval: time.Second}
	if text := values.Get("interval"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < minTopInterval || d > maxTopInterval {
			return query, badRequest("interval is no duration from 100ms to 1m")
		}
		query.Interval = d
	}
	if text := values.Get("count"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return query, badRequest("count is not a number of reports")
		}
		query.Count = n
	}
	return query, nil
}

// explain serves GET /v1/explain/{request}. A record of another app is as good
// as none to a caller who is confined.
func (s *Server) explain(c *call) error {
	record, err := s.cfg.Operations.Explain(c.r.Context(), c.r.PathValue("request"))
	if errors.Is(err, invoke.ErrNotFound) || err == nil && !c.who.Sees(state.AppName(record.App)) {
		return notFound("no live node remembers this request")
	}
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, record)
}

// encodeLine is one line of NDJSON.
func encodeLine(line any) ([]byte, error) {
	raw, err := json.Marshal(line)
	return append(raw, '\n'), err
}
