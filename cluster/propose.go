package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/oklog/ulid/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// hintsMax is how many hints at the leader are followed before the next pause.
const hintsMax = 2

// Propose commits a command and returns its result once this node's View shows
// it. It works on any node: without the leadership it asks the leader, and tries
// again, under the same command id, until the context ends (Timings.Propose if it
// has no deadline).
//
// An expected "no" is a refusal inside the result, see state.Refused, and no
// error. ErrNoLeader, ErrOverloaded and ErrDiskFull mean that nothing was
// changed; ErrOutcomeUnknown that nobody can tell. The command is not modified;
// its id, time and level are filled in if they are empty.
func (c *Cluster) Propose(ctx context.Context, command *clusterpb.Command) (*clusterpb.Result, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.Timings.Propose)
		defer cancel()
	}
	command = c.complete(command)
	result, err := c.proposeUntil(ctx, command)
	if err != nil {
		return nil, fmt.Errorf("propose: %w", err)
	}
	if err := c.awaitPosition(ctx, state.Index(result.GetIndex())); err != nil {
		// It is committed; only this node does not show it yet.
		c.log.Debug().Err(err).Uint64("index", result.GetIndex()).Msg("own write not yet visible")
	}
	return result, nil
}

// complete fills in what the proposer decides.
func (c *Cluster) complete(command *clusterpb.Command) *clusterpb.Command {
	command = proto.CloneOf(command)
	if command.GetId() == "" {
		command.Id = ulid.Make().String()
	}
	if command.GetTimeUnixMs() == 0 {
		command.TimeUnixMs = c.cfg.Clock.Now().UnixMilli()
	}
	if command.GetLevel() == 0 {
		command.Level = max(c.View().FeatureLevel(), 1)
	}
	return command
}

// proposeUntil tries until there is an answer or the context ends.
func (c *Cluster) proposeUntil(ctx context.Context, command *clusterpb.Command) (*clusterpb.Result, error) {
	// sent says that an attempt may have had an effect.
	sent := false
	pause := newPause(c.cfg.Timings.Retry, c.cfg.Timings.RetryMax)
	var hint state.NodeID
	hops := 0
	for {
		result, next, err := c.proposeOnce(ctx, command, hint)
		if err == nil {
			return result, nil
		}
		retry, maybe := proposalFailed(err)
		sent = sent || maybe
		switch {
		case !retry && sent:
			// Refused now, but an earlier attempt may have got through.
			return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		case !retry:
			return nil, err
		}
		// A hint is followed at once, but not for ever: after a change of leaders two
		// nodes may name each other.
		if next != "" && next != hint && hops < hintsMax && ctx.Err() == nil {
			hint = next
			hops++
			continue
		}
		hint, hops = "", 0
		if !pause.wait(ctx) {
			if sent {
				return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
			}
			return nil, fmt.Errorf("%w: %w", ErrNoLeader, err)
		}
	}
}

// proposalFailed says whether another attempt may succeed, and whether this one
// may have had an effect.
func proposalFailed(err error) (retry, sent bool) {
	if _, ok := errors.AsType[*notLeaderError](err); ok {
		return true, false
	}
	switch {
	case errors.Is(err, ErrOutcomeUnknown):
		return true, true
	case errors.Is(err, ErrOverloaded), errors.Is(err, ErrDiskFull), errors.Is(err, ErrTooLarge),
		errors.Is(err, ErrRemoved), errors.Is(err, ErrClosed), errors.Is(err, ErrTooNew), errors.Is(err, ErrDenied):
		return false, false
	case errors.Is(err, ErrUnreachable), errors.Is(err, ErrNoLeader), errors.Is(err, ErrUnknownNode):
		return true, false
	}
	switch status.Code(err) {
	case codes.Unimplemented, codes.InvalidArgument:
		return false, false
	default:
		// Broken connections and timeouts: the request may have arrived.
		return true, true
	}
}

// proposeOnce proposes here if this node leads, or asks the leader. With an error
// it may name the leader that another node hinted at.
func (c *Cluster) proposeOnce(ctx context.Context, command *clusterpb.Command, hint state.NodeID) (*clusterpb.Result, state.NodeID, error) {
	leader := hint
	if leader == "" {
		leader = c.Leader()
	}
	if leader == "" {
		leader = c.anyVoter()
	}
	if leader == "" {
		return nil, "", ErrNoLeader
	}
	if leader == c.id.ID {
		result, err := c.proposeHere(ctx, command)
		return result, hinted(err), err
	}
	conn, err := c.conns.ready(ctx, leader)
	if err != nil {
		return nil, "", err
	}
	res, err := clusterpb.NewControlServiceClient(conn).Propose(ctx, &clusterpb.ProposeRequest{Command: command})
	if err != nil {
		err = fromStatus(err)
		return nil, hinted(err), err
	}
	return res.GetResult(), "", nil
}

// hinted returns the leader that an error names.
func hinted(err error) state.NodeID {
	if e, ok := errors.AsType[*notLeaderError](err); ok {
		return e.leader
	}
	return ""
}

// proposeHere commits a command on the leader.
func (c *Cluster) proposeHere(ctx context.Context, command *clusterpb.Command) (*clusterpb.Result, error) {
	if err := c.machine.Halted(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTooNew, err)
	}
	data, err := state.Encode(command)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	propose := c.group.ProposeSystem
	if isClientWrite(command) {
		propose = c.group.Propose
	}
	answer, _, err := propose(ctx, data)
	if err != nil {
		return nil, fromGroup(err)
	}
	outcome, ok := answer.(applied)
	if !ok {
		return nil, fmt.Errorf("state answered %T: %w", answer, ErrOutcomeUnknown)
	}
	if outcome.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, outcome.err)
	}
	return outcome.result, nil
}

// isClientWrite tells writes that add something for people, which a full disk
// refuses, from those that keep the cluster going or make room.
func isClientWrite(command *clusterpb.Command) bool {
	switch command.GetOp().(type) {
	case *clusterpb.Command_Deploy, *clusterpb.Command_PutAlias, *clusterpb.Command_PutToken, *clusterpb.Command_PutLimits:
		return true
	default:
		return false
	}
}

// Leader returns the leader that this node knows, or "".
func (c *Cluster) Leader() state.NodeID {
	if id, _ := c.group.Leader(); id != "" {
		return state.NodeID(id)
	}
	if id := c.feedLeader.Load(); id != nil {
		return *id
	}
	return ""
}

// IsLeader reports whether this node leads, as far as it knows.
func (c *Cluster) IsLeader() bool { return c.group.IsLeader() }

// anyVoter returns a random voter other than this node, to ask who leads; a
// random known peer if the state names none.
func (c *Cluster) anyVoter() state.NodeID {
	var voters, others []state.NodeID
	for _, m := range c.View().Members() {
		switch {
		case m.ID == c.id.ID:
		case m.Role == clusterpb.Role_ROLE_VOTER:
			voters = append(voters, m.ID)
		default:
			others = append(others, m.ID)
		}
	}
	if len(voters) == 0 {
		for _, p := range c.dir.peers() {
			voters = append(voters, p.ID)
		}
	}
	if len(voters) == 0 {
		voters = others
	}
	if len(voters) == 0 {
		return ""
	}
	return voters[rand.IntN(len(voters))]
}

// awaitPosition waits until this node's state has reached an index.
func (c *Cluster) awaitPosition(ctx context.Context, index state.Index) error {
	for {
		position, changed := c.machine.Position()
		if position >= index {
			return nil
		}
		if err := c.machine.Halted(); err != nil {
			return fmt.Errorf("%w: %w", ErrTooNew, err)
		}
		select {
		case <-changed:
		case <-c.closing:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// awaitFounded waits until the cluster's first command is applied; false means
// that ctx ended.
func (c *Cluster) awaitFounded(ctx context.Context) bool {
	for {
		_, changed := c.machine.Position()
		if c.View().ClusterID() != "" {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
