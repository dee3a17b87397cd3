package cluster

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

// notLeaderError is what a node answers that does not lead, with a hint.
type notLeaderError struct{ leader state.NodeID }

func (e *notLeaderError) Error() string {
	if e.leader == "" {
		return "node does not lead, and knows no leader"
	}
	return "node does not lead, " + string(e.leader) + " does"
}

// errorKind is one line of the table that toStatus and fromStatus share.
type errorKind struct {
	kind clusterpb.ErrorKind
	code codes.Code
	err  error
}

// errorKinds returns the errors that keep their meaning between nodes.
func errorKinds() []errorKind {
	return []errorKind{
		{clusterpb.ErrorKind_ERROR_KIND_OVERLOADED, codes.ResourceExhausted, ErrOverloaded},
		{clusterpb.ErrorKind_ERROR_KIND_OUTCOME_UNKNOWN, codes.Aborted, ErrOutcomeUnknown},
		{clusterpb.ErrorKind_ERROR_KIND_DISK_FULL, codes.ResourceExhausted, ErrDiskFull},
		{clusterpb.ErrorKind_ERROR_KIND_REMOVED, codes.PermissionDenied, ErrRemoved},
		{clusterpb.ErrorKind_ERROR_KIND_NOT_HERE, codes.FailedPrecondition, ErrNotHere},
		{clusterpb.ErrorKind_ERROR_KIND_BAD_CREDENTIAL, codes.Unauthenticated, ErrBadCredential},
		{clusterpb.ErrorKind_ERROR_KIND_DENIED, codes.PermissionDenied, ErrDenied},
		{clusterpb.ErrorKind_ERROR_KIND_NO_LEADER, codes.Unavailable, ErrNoLeader},
		{clusterpb.ErrorKind_ERROR_KIND_TOO_LARGE, codes.InvalidArgument, ErrTooLarge},
	}
}

// toStatus turns an error into what crosses to another node. Errors that already
// are a status, from a further node, keep it.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	if e, ok := errors.AsType[*notLeaderError](err); ok {
		return withDetail(codes.FailedPrecondition, err, &clusterpb.ErrorDetail{
			Kind: clusterpb.ErrorKind_ERROR_KIND_NOT_LEADER, Leader: string(e.leader),
		})
	}
	for _, k := range errorKinds() {
		if errors.Is(err, k.err) {
			return withDetail(k.code, err, &clusterpb.ErrorDetail{Kind: k.kind})
		}
	}
	switch {
	case errors.Is(err, ErrClosed):
		// The node did nothing and leads no more: to others it is no leader.
		return withDetail(codes.Unavailable, err, &clusterpb.ErrorDetail{Kind: clusterpb.ErrorKind_ERROR_KIND_NO_LEADER})
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.FromContextError(err).Err()
	default:
		return status.Error(codes.Internal, err.Error())
	}
}

func withDetail(code codes.Code, err error, detail *clusterpb.ErrorDetail) error {
	s, derr := status.New(code, err.Error()).WithDetails(detail)
	if derr != nil {
		return status.Error(code, err.Error())
	}
	return s.Err()
}

// remoteError is an error from another node: its text, and the error of ours
// that it stands for.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }

func (e *remoteError) Unwrap() error { return e.kind }

// fromStatus turns an error from another node back. What has no kind stays a
// status, whose code says whether the call can have had an effect.
func fromStatus(err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, d := range s.Details() {
		detail, ok := d.(*clusterpb.ErrorDetail)
		if !ok {
			continue
		}
		if detail.GetKind() == clusterpb.ErrorKind_ERROR_KIND_NOT_LEADER {
			return &notLeaderError{leader: state.NodeID(detail.GetLeader())}
		}
		for _, k := range errorKinds() {
			if k.kind == detail.GetKind() {
				return &remoteError{text: s.Message(), kind: k.err}
			}
		}
	}
	return err
}

// fromGroup turns an error of the Raft group into one of ours.
func fromGroup(err error) error {
	if e, ok := errors.AsType[*group.NotLeaderError](err); ok {
		return &notLeaderError{leader: state.NodeID(e.ID)}
	}
	for _, k := range []struct{ from, to error }{
		{group.ErrOutcomeUnknown, ErrOutcomeUnknown},
		{group.ErrOverloaded, ErrOverloaded},
		{group.ErrDiskLow, ErrDiskFull},
		{group.ErrTooLarge, ErrTooLarge},
		{group.ErrClosed, ErrClosed},
	} {
		if errors.Is(err, k.from) {
			return &remoteError{text: err.Error(), kind: k.to}
		}
	}
	return err
}
