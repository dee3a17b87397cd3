package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"

	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

const (
	// rpcProto carries gRPC between members, joinProto from machines that are not
	// members yet.
	rpcProto  = "covey-rpc"
	joinProto = "covey-join"

	// messageMax is the largest gRPC message both ways: a 4 MiB chunk and its frame.
	messageMax = 4<<20 + 64<<10
)

// peerCredentials tell gRPC who is at the other end. The connection comes from
// the peer port, which did the TLS handshake.
type peerCredentials struct{}

var _ credentials.TransportCredentials = peerCredentials{}

// peerInfo is the authenticated other end of a connection.
type peerInfo struct {
	credentials.CommonAuthInfo
	node state.NodeID
}

// AuthType implements credentials.AuthInfo.
func (peerInfo) AuthType() string { return "covey" }

func (peerCredentials) handshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	node, _ := group.PeerOf(conn) // Empty for a machine that wants to join.
	return conn, peerInfo{
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		node:           state.NodeID(node),
	}, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (p peerCredentials) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return p.handshake(conn)
}

// ServerHandshake implements credentials.TransportCredentials.
func (p peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return p.handshake(conn)
}

// Info implements credentials.TransportCredentials.
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

// OverrideServerName implements credentials.TransportCredentials; nodes have no
// server names.
func (peerCredentials) OverrideServerName(string) error { return nil }

// PeerID returns the node that calls a gRPC handler; false outside of one.
func PeerID(ctx context.Context) (state.NodeID, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", false
	}
	info, ok := p.AuthInfo.(peerInfo)
	return info.node, ok && info.node != ""
}

// newRPCServer returns a gRPC server for the peer port. Each call is checked
// against the state again: a connection outlives the removal of its node.
func newRPCServer(admit func(state.NodeID) error, members bool) *grpc.Server {
	check := func(ctx context.Context) error {
		if !members {
			return nil
		}
		node, ok := PeerID(ctx)
		if !ok {
			return fmt.Errorf("identify caller: %w", ErrDenied)
		}
		return admit(node)
	}
	return grpc.NewServer(
		grpc.Creds(peerCredentials{}),
		grpc.MaxRecvMsgSize(messageMax), grpc.MaxSendMsgSize(messageMax),
		// Slow or silent callers are found; our own clients ping every ten seconds.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.MaxConcurrentStreams(1024),
		// Or one of them could write into the data directory after Close.
		grpc.WaitForHandlers(true),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			if err := check(ctx); err != nil {
				return nil, toStatus(err)
			}
			res, err := h(ctx, req)
			return res, toStatus(err)
		}),
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			if err := check(s.Context()); err != nil {
				return toStatus(err)
			}
			return toStatus(h(srv, s))
		}),
	)
}

// clientOptions are those of every gRPC connection over the peer port.
func clientOptions(dial func(context.Context) (net.Conn, error)) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(peerCredentials{}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMax), grpc.MaxCallSendMsgSize(messageMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		// The default waits a second after the first failure; callers have their own
		// bounded retries and know better when a node may be back.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: dialBackoff(), MinConnectTimeout: 2 * time.Second}),
	}
}

// connections are the gRPC connections to other nodes, one each.
type connections struct {
	dial func(context.Context, state.NodeID) (net.Conn, error)

	mu     sync.Mutex
	closed bool
	conns  map[state.NodeID]*grpc.ClientConn
}

func newConnections(dial func(context.Context, state.NodeID) (net.Conn, error)) *connections {
	return &connections{dial: dial, conns: map[state.NodeID]*grpc.ClientConn{}}
}

// get returns the connection to a node, which connects when it is first used.
func (c *connections) get(node state.NodeID) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if conn, ok := c.conns[node]; ok {
		return conn, nil
	}
	dial := func(ctx context.Context) (net.Conn, error) { return c.dial(ctx, node) }
	conn, err := grpc.NewClient("passthrough:///"+string(node), clientOptions(dial)...)
	if err != nil {
		return nil, fmt.Errorf("connect to node %s: %w", node, err)
	}
	c.conns[node] = conn
	return conn, nil
}

// readyTimeout bounds how long a request waits for a connection to stand. A node
// that takes longer is most likely dead, and another leads by then.
const readyTimeout = time.Second

// ready is get for a request that must not be lost unseen: it returns once the
// connection stands, so that a failure to connect, after which nothing was sent,
// is told apart from a failure of the request. That error wraps ErrUnreachable.
func (c *connections) ready(ctx context.Context, node state.NodeID) (*grpc.ClientConn, error) {
	conn, err := c.get(node)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if conn.GetState() == connectivity.TransientFailure {
		conn.ResetConnectBackoff() // the pause is for those who do not ask
	}
	for tried := false; ; {
		conn.Connect()
		s := conn.GetState()
		if s == connectivity.Ready {
			return conn, nil
		}
		// A failure of before is no news; the one after an attempt counts.
		if (s == connectivity.TransientFailure && tried) || s == connectivity.Shutdown {
			return nil, fmt.Errorf("connect to node %s: %w", node, ErrUnreachable)
		}
		tried = tried || s == connectivity.Connecting
		if !conn.WaitForStateChange(ctx, s) {
			return nil, fmt.Errorf("connect to node %s: %w: %w", node, ErrUnreachable, ctx.Err())
		}
	}
}

// keep closes the connections to nodes that fail the test.
func (c *connections) keep(test func(state.NodeID) bool) {
	c.mu.Lock()
	var gone []*grpc.ClientConn
	for node, conn := range c.conns {
		if !test(node) {
			gone = append(gone, conn)
			delete(c.conns, node)
		}
	}
	c.mu.Unlock()
	for _, conn := range gone {
		_ = conn.Close()
	}
}

// Close closes all connections; get fails from then on.
func (c *connections) Close() error {
	c.mu.Lock()
	conns := c.conns
	c.conns, c.closed = map[state.NodeID]*grpc.ClientConn{}, true
	c.mu.Unlock()
	var errs []error
	for _, conn := range conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}
