package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/trust"
)

// keepCertificate renews the certificate in time, until ctx ends.
func (c *Cluster) keepCertificate(ctx context.Context) error {
	pause := newPause(c.cfg.Timings.Retry, c.cfg.Timings.Renew)
	for {
		next := c.cfg.Timings.Renew
		if c.renewalDue() {
			err := c.renew(ctx)
			switch {
			case err == nil:
				c.log.Info().Time("expires", c.creds.Identity().Expires()).Msg("certificate renewed")
				pause.reset()
			case errors.Is(err, ErrRemoved):
				return fmt.Errorf("renew certificate: %w", err)
			default:
				c.log.Warn().Err(err).Time("expires", c.creds.Identity().Expires()).Msg("certificate not renewed")
				if !pause.wait(ctx) {
					return nil
				}
				continue
			}
		}
		if !sleep(ctx, next) {
			return nil
		}
	}
}

func (c *Cluster) renewalDue() bool {
	return !c.cfg.Clock.Now().Before(c.creds.Identity().RenewAt())
}

// renewBySelf renews a due certificate where the authority's key is at hand.
func (c *Cluster) renewBySelf() error {
	if !c.renewalDue() || !c.creds.Authority().CanSign() {
		return nil
	}
	return c.renewWith(func(req *clusterpb.RenewRequest) ([]byte, error) {
		return c.issue(req.GetCsr(), c.id.ID)
	})
}

// renew gets a new certificate for a new key: from itself, or from any node that
// answers, by the protocol for machines without a valid certificate, because
// this node's may have ended.
func (c *Cluster) renew(ctx context.Context) error {
	if c.creds.Authority().CanSign() {
		return c.renewBySelf()
	}
	return c.renewWith(func(req *clusterpb.RenewRequest) ([]byte, error) {
		err := errNoSource
		for _, address := range c.peerAddresses() {
			var certificate []byte
			if certificate, err = c.renewAt(ctx, address, req); err == nil || errors.Is(err, ErrRemoved) {
				return certificate, err
			}
			if ctx.Err() != nil {
				break
			}
		}
		return nil, err
	})
}

// renewWith makes a new key, has it signed and puts it to use.
func (c *Cluster) renewWith(sign func(*clusterpb.RenewRequest) ([]byte, error)) error {
	key, err := trust.NewKey()
	if err != nil {
		return err
	}
	csr, err := trust.NewRequest(key, c.id.ID)
	if err != nil {
		return err
	}
	old := c.creds.Identity()
	signature, err := old.SignRenewal(csr)
	if err != nil {
		return err
	}
	certificate, err := sign(&clusterpb.RenewRequest{Csr: csr, Certificate: old.Certificate(), Signature: signature})
	if err != nil {
		return err
	}
	identity, err := trust.NewIdentity(key, certificate)
	if err != nil {
		return err
	}
	if identity.Node() != c.id.ID {
		return fmt.Errorf("certificate names node %s: %w", identity.Node(), ErrForeign)
	}
	return c.creds.SetIdentity(identity)
}

func (c *Cluster) renewAt(ctx context.Context, address string, req *clusterpb.RenewRequest) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timings.RPC)
	defer cancel()
	var certificate []byte
	err := callJoin(ctx, address, c.renewConfig(), func(client clusterpb.JoinServiceClient) error {
		res, err := client.Renew(ctx, req)
		certificate = res.GetCertificate()
		return err
	})
	return certificate, err
}

// renewConfig is the configuration of a machine that joins, which accepts ended
// certificates, but not those of removed nodes: they have nothing to say here.
func (c *Cluster) renewConfig() *tls.Config {
	authority := c.creds.Authority()
	config := trust.JoinClientConfig(authority.Hash(), authority.Cluster(), joinProto)
	verify := config.VerifyConnection
	config.VerifyConnection = func(s tls.ConnectionState) error {
		if err := verify(s); err != nil {
			return err
		}
		_, err := c.identify(s.PeerCertificates[0])
		return err
	}
	return config
}

// askRemoved asks others whether this node was removed: those that know refuse its
// certificate in the handshake, where they cannot say why. It returns ErrRemoved
// or nil, also when nobody answers.
func (c *Cluster) askRemoved(ctx context.Context) error {
	err := c.renewWith(func(req *clusterpb.RenewRequest) ([]byte, error) {
		for _, address := range c.peerAddresses() {
			if _, err := c.renewAt(ctx, address, req); errors.Is(err, ErrRemoved) {
				return nil, err
			}
			if ctx.Err() != nil {
				break
			}
		}
		return nil, errNoSource
	})
	if errors.Is(err, ErrRemoved) {
		return err
	}
	return nil
}

// peerAddresses returns where other members may be reached, voters first.
func (c *Cluster) peerAddresses() []string {
	var found []string
	for _, m := range c.introductions() {
		if m.GetId() != string(c.id.ID) {
			found = append(found, m.GetPeerAddress())
		}
	}
	for _, p := range c.dir.peers() {
		if p.ID != c.id.ID {
			found = append(found, p.Peer)
		}
	}
	return found
}

// callJoin calls the join service at an address. The TLS configuration pins the
// cluster's authority.
func callJoin(ctx context.Context, address string, config *tls.Config, call func(clusterpb.JoinServiceClient) error) error {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: config}
	// Connected here and not by gRPC, which would hide why it failed.
	tlsConn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		if errors.Is(err, trust.ErrWrongCA) || errors.Is(err, trust.ErrNotOurs) {
			return fmt.Errorf("call %s: %w: %w", address, ErrForeign, err)
		}
		return fmt.Errorf("call %s: %w: %w", address, ErrUnreachable, err)
	}
	used := false
	dial := func(context.Context) (net.Conn, error) {
		if used {
			return nil, ErrClosed // One call, one connection.
		}
		used = true
		return tlsConn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+address, clientOptions(dial)...)
	if err != nil {
		return errors.Join(fmt.Errorf("call %s: %w", address, err), tlsConn.Close())
	}
	defer func() {
		_ = conn.Close()
		_ = tlsConn.Close()
	}()
	return fromStatus(call(clusterpb.NewJoinServiceClient(conn)))
}
