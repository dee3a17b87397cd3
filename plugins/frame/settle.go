package frame

// CanceledError is the error of a call whose context ended before its answer. The other side has been told,
// but may be busy with the call for a while; whoever gives it room for one call at a time has to wait.
type CanceledError struct {
	// Cause is why the context ended.
	Cause error

	settled <-chan struct{}
}

// Error names the cause.
func (e *CanceledError) Error() string { return "wait for answer: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *CanceledError) Unwrap() error { return e.Cause }

// Settled is closed once the other side has ended the call, or the session has ended.
func (e *CanceledError) Settled() <-chan struct{} { return e.settled }

// leave forgets a call whose caller has given up, until the other side has ended it. It returns nil if the
// call has ended already, and else a channel that is closed when it does.
func (s *Session) leave(id uint64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[id] == nil {
		return nil
	}
	delete(s.calls, id)
	settled := make(chan struct{})
	s.left[id] = settled
	return settled
}

// settle notes that the other side has ended a call that was left.
func (s *Session) settle(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settleLocked(id)
}

func (s *Session) settleLocked(id uint64) {
	if settled, ok := s.left[id]; ok {
		close(settled)
		delete(s.left, id)
	}
}
