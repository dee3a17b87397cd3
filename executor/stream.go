package executor

import (
	"context"
	"errors"
	"io"
	"time"
)

// stream passes a streamed answer on, and keeps the slot until its end. Like any
// reader it is for one goroutine.
type stream struct {
	s     *slot
	inner io.ReadCloser
	ctx   context.Context // the call's
	began time.Time
	usage Usage
	err   error // how it ended; nil while it goes on
}

var _ io.ReadCloser = (*stream)(nil)

// Read returns the function's output as it comes. It ends with io.EOF, or with
// one of the errors that Invoke returns.
func (st *stream) Read(b []byte) (int, error) {
	if st.err != nil {
		return 0, st.err
	}
	n, err := st.inner.Read(b)
	st.usage.BytesOut += int64(n)
	if err != nil {
		st.finish(err)
		return n, st.err
	}
	return n, nil
}

// Close ends the stream. Before its end it cancels the call.
func (st *stream) Close() error {
	if st.err != nil {
		return nil
	}
	err := st.inner.Close()
	st.err = io.ErrClosedPipe
	st.s.abandon(leftStream{error: io.ErrClosedPipe, inner: st.inner})
	st.account(context.Canceled)
	return err
}

// finish gives the slot back once the stream has ended by itself.
func (st *stream) finish(err error) {
	s, took := st.s, time.Since(st.began)
	_ = st.inner.Close() // it has told its end already
	switch {
	case !errors.Is(err, io.EOF):
		st.err = s.fail(st.ctx, leftStream{error: err, inner: st.inner}, took)
	case s.disarm():
		s.in.p.release(s, time.Now(), max(took, 1))
		st.err = io.EOF
	default:
		st.err = s.lost(ErrTimeout)
	}
	if errors.Is(st.err, io.EOF) {
		st.account(nil)
		return
	}
	st.account(st.err)
}

// account tells meter and metrics what the whole call took.
func (st *stream) account(err error) {
	took := time.Since(st.began)
	st.usage.Billed = ceilMillisecond(took)
	st.usage.MemoryPeak = st.s.in.peak.Load()
	st.usage.Failed = err != nil
	st.s.in.p.e.count(st.s.in.p, &st.usage, took, err)
}

// leftStream is the error of a stream that ended before its end, with the means
// to learn when the function is done with it.
type leftStream struct {
	error
	inner io.ReadCloser
}

func (l leftStream) Unwrap() error { return l.error }

// Settled is closed when the function is done with the call, if the data plane
// can tell.
func (l leftStream) Settled() <-chan struct{} {
	if s, ok := l.inner.(interface{ Settled() <-chan struct{} }); ok {
		return s.Settled()
	}
	return nil
}

var _ settler = leftStream{}
