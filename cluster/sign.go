package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/cluster/trust"
)

// introductionsMax bounds the members that a new one is told; it learns the rest
// from the state.
const introductionsMax = 16

// sign issues a certificate, here if this node is a voter, or by asking voters.
// The request proves itself to whoever signs, so the way it takes does not matter.
func (c *Cluster) sign(ctx context.Context, req *clusterpb.SignRequest) ([]byte, error) {
	if c.creds.Authority().CanSign() {
		certificate, err := c.signHere(ctx, req)
		if !errors.Is(err, ErrNotHere) {
			return certificate, err
		}
	}
	err := fmt.Errorf("sign: %w", ErrNoLeader)
	for _, voter := range c.signers() {
		conn, cerr := c.conns.get(voter)
		if cerr != nil {
			return nil, cerr
		}
		res, cerr := clusterpb.NewControlServiceClient(conn).Sign(ctx, req)
		if cerr == nil {
			return res.GetCertificate(), nil
		}
		if err = fromStatus(cerr); !askAnother(err) || ctx.Err() != nil {
			return nil, err
		}
	}
	return nil, err
}

// askAnother reports whether another voter may answer what this one did not.
func askAnother(err error) bool {
	return !errors.Is(err, ErrBadCredential) && !errors.Is(err, ErrRemoved) && !errors.Is(err, ErrDenied)
}

// signers returns the other voters, the leader first.
func (c *Cluster) signers() []state.NodeID {
	leader := c.Leader()
	var nodes []state.NodeID
	for _, m := range c.View().Members() {
		if m.ID == c.id.ID || m.Role != clusterpb.Role_ROLE_VOTER {
			continue
		}
		if m.ID == leader {
			nodes = append([]state.NodeID{m.ID}, nodes...)
		} else {
			nodes = append(nodes, m.ID)
		}
	}
	return nodes
}

// signHere checks a request against the state and signs.
func (c *Cluster) signHere(ctx context.Context, req *clusterpb.SignRequest) ([]byte, error) {
	switch kind := req.GetKind().(type) {
	case *clusterpb.SignRequest_Join:
		return c.signJoin(ctx, kind.Join)
	case *clusterpb.SignRequest_Renew:
		return c.signRenewal(kind.Renew)
	default:
		return nil, fmt.Errorf("sign: unknown request: %w", ErrDenied)
	}
}

// signJoin makes a machine a member. Every step may be repeated: the use of the
// token is counted once per node, and the id belongs to the key, so nobody can
// take a member's place with a token.
func (c *Cluster) signJoin(ctx context.Context, req *clusterpb.JoinRequest) ([]byte, error) {
	node := state.NodeID(req.GetMember().GetId())
	if err := trust.CheckBirth(req.GetCsr(), node); err != nil {
		return nil, fmt.Errorf("join: %w: %w", ErrBadCredential, err)
	}
	// A token may be a moment old, and revoked a moment ago.
	view, err := c.Consistent(ctx)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	token := view.TokenByHash(sha256.Sum256([]byte(req.GetSecret())))
	if token == nil || token.Kind != clusterpb.TokenKind_TOKEN_KIND_JOIN || token.ID != state.TokenID(req.GetTokenId()) {
		return nil, fmt.Errorf("join: unknown token: %w", ErrBadCredential)
	}
	for _, command := range []*clusterpb.Command{
		{Op: &clusterpb.Command_UseJoinToken{UseJoinToken: &clusterpb.UseJoinToken{Id: req.GetTokenId(), Node: string(node)}}},
		{Op: &clusterpb.Command_PutMember{PutMember: &clusterpb.PutMember{Member: req.GetMember()}}},
	} {
		result, err := c.Propose(ctx, command)
		if err != nil {
			return nil, fmt.Errorf("join: %w", err)
		}
		if err := state.Refused(result); err != nil {
			return nil, fmt.Errorf("join: %w: %w", ErrBadCredential, err)
		}
	}
	c.log.Info().Str("peer", string(node)).Msg("node joined")
	return c.issue(req.GetCsr(), node)
}

// signRenewal renews the certificate of a member.
func (c *Cluster) signRenewal(req *clusterpb.RenewRequest) ([]byte, error) {
	node, err := c.creds.Authority().VerifyRenewal(req.GetCsr(), req.GetCertificate(), req.GetSignature())
	if err != nil {
		return nil, fmt.Errorf("renew: %w: %w", ErrBadCredential, err)
	}
	if err := c.admit(node); err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	if c.View().Member(node) == nil {
		return nil, fmt.Errorf("renew: node %s: %w", node, ErrNotHere)
	}
	return c.issue(req.GetCsr(), node)
}

// issue signs with the authority's key.
func (c *Cluster) issue(csr []byte, node state.NodeID) ([]byte, error) {
	certificate, err := c.creds.Authority().Sign(csr, node, c.cfg.Clock.Now())
	switch {
	case errors.Is(err, trust.ErrNoAuthority):
		return nil, fmt.Errorf("sign: %w", ErrNotHere)
	case err != nil:
		return nil, fmt.Errorf("sign: %w: %w", ErrBadCredential, err)
	}
	return certificate, nil
}

// introductions returns the members that a new one should know first: those it
// can follow.
func (c *Cluster) introductions() []*clusterpb.Member {
	var known []*clusterpb.Member
	peers := c.gossip.Peers()
	for _, voting := range []bool{true, false} {
		for _, m := range c.View().Members() {
			if (m.Role == clusterpb.Role_ROLE_VOTER) != voting || len(known) >= introductionsMax {
				continue
			}
			known = append(known, &clusterpb.Member{
				Id: string(m.ID), Name: m.Name, PeerAddress: peerAddress(m, peers), GossipAddress: m.GossipAddress,
			})
		}
	}
	return known
}
