package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
)

// uploadCode serves POST /v1/code: the body, whole, becomes a blob. The answer
// comes when it is durable.
func (s *Server) uploadCode(c *call) error {
	if c.r.ContentLength > s.cfg.MaxCode {
		return &http.MaxBytesError{Limit: s.cfg.MaxCode}
	}
	if c.r.ContentLength == 0 {
		return badRequest("the body is empty")
	}
	body := &patientReader{c: c, r: http.MaxBytesReader(c.w, c.r.Body, s.cfg.MaxCode), wait: s.cfg.BodyTimeout}
	digest, size, err := s.cfg.Code.Put(c.r.Context(), body)
	if body.err != nil {
		// What the store makes of it matters less than that the body broke off.
		if _, ok := errors.AsType[*http.MaxBytesError](body.err); ok {
			return body.err
		}
		return bodyError(body.err)
	}
	if err != nil {
		return fmt.Errorf("store code: %w", err)
	}
	return c.reply(http.StatusCreated, wire.Upload{Digest: digest, Size: size})
}

// patientReader gives a long body a new deadline with each part, so that it may
// take as long as it keeps coming, and remembers how reading failed.
type patientReader struct {
	c    *call
	r    io.Reader
	wait time.Duration
	err  error
}

func (p *patientReader) Read(buf []byte) (int, error) {
	readUntil(p.c.w, time.Now().Add(p.wait))
	n, err := p.r.Read(buf)
	if errors.Is(err, io.EOF) {
		readUntil(p.c.w, time.Time{})
	} else if err != nil {
		p.err = err
	}
	return n, err
}

// backup serves GET /v1/backup. A backup that breaks off is cut, so that no
// client takes it for whole.
func (s *Server) backup(c *call) error {
	readUntil(c.w, time.Time{})
	out := &backupWriter{w: c.w}
	s.log.Info().Str("by", string(c.who.ID)).Msg("backup taken")
	if err := s.cfg.Operations.Backup(c.r.Context(), out); err != nil {
		if !out.started {
			return err
		}
		s.log.Error().Err(err).Str("invocation", c.id).Msg("backup broke off")
		panic(http.ErrAbortHandler) // net/http's own way to cut an answer short
	}
	return nil
}

// backupWriter sends the header with the first byte, so that a backup that
// cannot begin is a plain error.
type backupWriter struct {
	w       http.ResponseWriter
	started bool
}

func (b *backupWriter) Write(p []byte) (int, error) {
	if !b.started {
		b.started = true
		b.w.Header().Set("Content-Type", "application/octet-stream")
		b.w.WriteHeader(http.StatusOK)
	}
	return b.w.Write(p)
}
