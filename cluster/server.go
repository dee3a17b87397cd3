package cluster

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/cluster/trust"
)

// controlServer answers the other members. The interceptors of the gRPC server
// have checked who calls and translate errors.
type controlServer struct {
	clusterpb.UnimplementedControlServiceServer
	c *Cluster
}

// Propose implements clusterpb.ControlServiceServer.
func (s *controlServer) Propose(ctx context.Context, req *clusterpb.ProposeRequest) (*clusterpb.ProposeResponse, error) {
	if req.GetCommand() == nil {
		return nil, fmt.Errorf("propose for a peer: no command: %w", ErrDenied)
	}
	result, err := s.c.proposeHere(ctx, req.GetCommand())
	if err != nil {
		return nil, err
	}
	return &clusterpb.ProposeResponse{Result: result}, nil
}

// ReadIndex implements clusterpb.ControlServiceServer.
func (s *controlServer) ReadIndex(ctx context.Context, _ *clusterpb.ReadIndexRequest) (*clusterpb.ReadIndexResponse, error) {
	index, err := s.c.reads.get(ctx)
	if err != nil {
		return nil, err
	}
	return &clusterpb.ReadIndexResponse{Index: uint64(index)}, nil
}

// Follow implements clusterpb.ControlServiceServer.
func (s *controlServer) Follow(req *clusterpb.FollowRequest, stream grpc.ServerStreamingServer[clusterpb.FollowResponse]) error {
	return s.c.feedTo(req, stream)
}

// Sign implements clusterpb.ControlServiceServer.
func (s *controlServer) Sign(ctx context.Context, req *clusterpb.SignRequest) (*clusterpb.SignResponse, error) {
	if !s.c.creds.Authority().CanSign() {
		return nil, fmt.Errorf("sign: %w", ErrNotHere)
	}
	certificate, err := s.c.signHere(ctx, req)
	if err != nil {
		return nil, err
	}
	return &clusterpb.SignResponse{Certificate: certificate}, nil
}

// TakeCustody implements clusterpb.ControlServiceServer. Only voters have the
// keys, so only they hand them over.
func (s *controlServer) TakeCustody(ctx context.Context, req *clusterpb.TakeCustodyRequest) (*clusterpb.TakeCustodyResponse, error) {
	node, _ := PeerID(ctx)
	if m := s.c.View().Member(node); m == nil || m.Role != clusterpb.Role_ROLE_VOTER {
		return nil, fmt.Errorf("take keys from %s, which is no voter: %w", node, ErrDenied)
	}
	custody, err := trust.ParseCustody(req.GetAuthorityKey(), req.GetKek())
	if err != nil {
		return nil, err
	}
	if err := s.c.takeCustody(custody); err != nil {
		return nil, err
	}
	return &clusterpb.TakeCustodyResponse{}, nil
}

// Check implements clusterpb.ControlServiceServer.
func (s *controlServer) Check(context.Context, *clusterpb.CheckRequest) (*clusterpb.CheckResponse, error) {
	position, _ := s.c.machine.Position()
	return &clusterpb.CheckResponse{
		TimeUnixNs:   s.c.cfg.Clock.Now().UnixNano(),
		FeatureLevel: state.FeatureLevel,
		Index:        uint64(position),
	}, nil
}

// joinServer answers machines that are not members yet, and members whose
// certificate has ended.
type joinServer struct {
	clusterpb.UnimplementedJoinServiceServer
	c *Cluster
}

// Join implements clusterpb.JoinServiceServer.
func (s *joinServer) Join(ctx context.Context, req *clusterpb.JoinRequest) (*clusterpb.JoinResponse, error) {
	sign := &clusterpb.SignRequest{Kind: &clusterpb.SignRequest_Join{Join: req}}
	certificate, err := s.c.sign(ctx, sign)
	if err != nil {
		return nil, err
	}
	return &clusterpb.JoinResponse{
		Certificate: certificate,
		Authority:   s.c.creds.Authority().Certificate(),
		GossipKey:   s.c.creds.GossipKey(),
		ClusterId:   string(s.c.id.Cluster),
		Members:     s.c.introductions(),
		Epoch:       *s.c.epoch.Load(),
	}, nil
}

// Renew implements clusterpb.JoinServiceServer.
func (s *joinServer) Renew(ctx context.Context, req *clusterpb.RenewRequest) (*clusterpb.RenewResponse, error) {
	certificate, err := s.c.sign(ctx, &clusterpb.SignRequest{Kind: &clusterpb.SignRequest_Renew{Renew: req}})
	if err != nil {
		return nil, err
	}
	return &clusterpb.RenewResponse{Certificate: certificate}, nil
}
