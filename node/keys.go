package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/cluster/trust"
	"github.com/covey-dev/covey/node/access"
	"github.com/covey-dev/covey/node/access/sigv4"
	"github.com/covey-dev/covey/node/api"
	"github.com/covey-dev/covey/node/nodepb"
)

const (
	// keeperTimeout bounds the question to one voter, so that a dead one leaves time
	// to ask another.
	keeperTimeout = time.Second
	// keySweep is how long the keys of a revoked access key stay in memory at most.
	keySweep = time.Minute
)

// accessKeys seals the secrets of access keys and finds what signatures are checked
// with: here where this node votes, else by asking those who do.
type accessKeys struct{ node *Node }

var _ api.AccessKeys = accessKeys{}

// Seal implements api.AccessKeys.
func (a accessKeys) Seal(ctx context.Context, id state.TokenID, secret string) ([]byte, error) {
	if kek := a.node.cluster.KEK(); kek != nil {
		return trust.Seal(kek, access.SealName(id), []byte(secret))
	}
	var sealed []byte
	err := a.askVoters(ctx, func(ctx context.Context, voter nodepb.KeysClient) (bool, error) {
		reply, err := voter.Seal(ctx, &nodepb.SealRequest{Id: string(id), Secret: secret})
		sealed = reply.GetSealed()
		return err == nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("seal access key: %w: %w", api.ErrNoQuorum, err)
	}
	return sealed, nil
}

// DayKey implements api.AccessKeys.
func (a accessKeys) DayKey(ctx context.Context, key *state.Token, day string) (sigv4.Key, error) {
	return a.node.keyring.DayKey(ctx, key, day)
}

// source is what the keyring asks when it does not know.
func (a accessKeys) source(ctx context.Context, key *state.Token, day string) (sigv4.Key, error) {
	if !access.UsefulDay(day, a.node.cfg.Clock.Now()) {
		return sigv4.Key{}, access.ErrUnknownKey // its signature is refused anyway
	}
	if kek := a.node.cluster.KEK(); kek != nil {
		return dayKey(kek, key, day)
	}
	var out sigv4.Key
	answer := access.ErrNoKeeper
	err := a.askVoters(ctx, func(ctx context.Context, voter nodepb.KeysClient) (bool, error) {
		reply, err := voter.Day(ctx, &nodepb.DayRequest{Id: string(key.ID), Day: day})
		if err != nil {
			return false, err
		}
		switch reply.GetOutcome() {
		case nodepb.DayOutcome_DAY_OUTCOME_KEY:
			if len(reply.GetKey()) != len(out) {
				return false, fmt.Errorf("key of a day has %d bytes", len(reply.GetKey()))
			}
			copy(out[:], reply.GetKey())
			answer = nil
			return true, nil
		case nodepb.DayOutcome_DAY_OUTCOME_LOST:
			answer = access.ErrLostKey
			return true, nil
		default:
			// Another voter may have applied more of the log.
			answer = access.ErrUnknownKey
			return false, nil
		}
	})
	switch {
	case answer == nil:
		return out, nil
	case err != nil:
		// Whoever did not answer may know the key that the others do not know yet.
		return sigv4.Key{}, fmt.Errorf("ask for access key %s: %w: %w", key.ID, access.ErrNoKeeper, err)
	}
	return sigv4.Key{}, fmt.Errorf("ask for access key %s: %w", key.ID, answer)
}

// askVoters asks the voters one after the other, the leader first, until ask says
// that it is done. Otherwise it returns the errors of those who failed.
func (a accessKeys) askVoters(ctx context.Context, ask func(context.Context, nodepb.KeysClient) (done bool, err error)) error {
	voters := a.voters()
	if len(voters) == 0 {
		return errors.New("no voter is known")
	}
	var failed error
	for _, voter := range voters {
		conn, err := a.node.cluster.Conn(ctx, voter)
		if err == nil {
			one, cancel := context.WithTimeout(ctx, keeperTimeout)
			var done bool
			done, err = ask(one, nodepb.NewKeysClient(conn))
			cancel()
			if done {
				return nil
			}
		}
		failed = errors.Join(failed, err)
		if ctx.Err() != nil {
			return errors.Join(failed, ctx.Err())
		}
	}
	return failed
}

// voters are the other voters, the leader first: it knows each access key.
func (a accessKeys) voters() []state.NodeID {
	c := a.node.cluster
	leader := c.Leader()
	var nodes []state.NodeID
	for _, m := range c.View().Members() {
		switch {
		case m.ID == c.ID() || m.Role != clusterpb.Role_ROLE_VOTER:
		case m.ID == leader:
			nodes = append([]state.NodeID{m.ID}, nodes...)
		default:
			nodes = append(nodes, m.ID)
		}
	}
	return nodes
}

// sweepKeys keeps the keyring free of what is of no use any more.
func (n *Node) sweepKeys(ctx context.Context) error {
	tick := time.NewTicker(keySweep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.keyring.Sweep(n.cluster.View(), n.cfg.Clock.Now())
		case <-ctx.Done():
			return nil
		}
	}
}

// dayKey opens an access key's secret and derives the key of a day.
func dayKey(kek []byte, key *state.Token, day string) (sigv4.Key, error) {
	secret, err := trust.Unseal(kek, access.SealName(key.ID), key.Sealed)
	if err != nil {
		return sigv4.Key{}, fmt.Errorf("access key %s: %w: %w", key.ID, access.ErrLostKey, err)
	}
	return sigv4.DayKey(string(secret), day), nil
}

// keyServer answers nodes that do not vote. The peer port has made sure that it is
// a member who asks.
type keyServer struct {
	nodepb.UnimplementedKeysServer
	node *Node
}

// Seal implements nodepb.KeysServer.
func (s *keyServer) Seal(_ context.Context, req *nodepb.SealRequest) (*nodepb.SealReply, error) {
	kek := s.node.cluster.KEK()
	if kek == nil {
		return nil, fmt.Errorf("seal: %w", cluster.ErrNotHere)
	}
	sealed, err := trust.Seal(kek, access.SealName(state.TokenID(req.GetId())), []byte(req.GetSecret()))
	if err != nil {
		return nil, err
	}
	return &nodepb.SealReply{Sealed: sealed}, nil
}

// Day implements nodepb.KeysServer. It looks at this node's own state: whoever asks
// cannot make a revoked key work by what it sends.
func (s *keyServer) Day(_ context.Context, req *nodepb.DayRequest) (*nodepb.DayReply, error) {
	kek := s.node.cluster.KEK()
	if kek == nil {
		return nil, fmt.Errorf("derive key: %w", cluster.ErrNotHere)
	}
	now := s.node.cfg.Clock.Now()
	token, err := access.FindKey(s.node.cluster.View(), req.GetId(), now)
	if err != nil || !access.UsefulDay(req.GetDay(), now) {
		return &nodepb.DayReply{Outcome: nodepb.DayOutcome_DAY_OUTCOME_UNKNOWN}, nil
	}
	key, err := dayKey(kek, token, req.GetDay())
	if err != nil {
		s.node.log.Error().Err(err).Msg("access key cannot be opened")
		return &nodepb.DayReply{Outcome: nodepb.DayOutcome_DAY_OUTCOME_LOST}, nil
	}
	return &nodepb.DayReply{Outcome: nodepb.DayOutcome_DAY_OUTCOME_KEY, Key: key[:]}, nil
}
