package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/cluster/trust"
)

// joiningFile holds the key of a node that is not a member yet.
const joiningFile = "joining.key"

// Join makes the data directory of a new member of the token's cluster. It tries
// the token's addresses again and again until one answers or ctx ends, and never
// founds a cluster. A directory that holds a member of that cluster is left as it
// is; one of another cluster is ErrForeign. A token that is not accepted is
// ErrBadCredential.
func Join(ctx context.Context, cfg Config, token string) error {
	if err := join(ctx, cfg, token); err != nil {
		return fmt.Errorf("join cluster: %w", err)
	}
	return nil
}

func join(ctx context.Context, cfg Config, text string) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	token, err := trust.ParseJoinToken(text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadCredential, err)
	}
	dir, err := openDataDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	switch id, err := dir.identity(); {
	case err == nil && id.Cluster == token.Cluster:
		return nil
	case err == nil:
		return fmt.Errorf("node of cluster %s: %w", id.Cluster, ErrForeign)
	case !errors.Is(err, ErrNotFounded):
		return err
	}
	key, err := dir.joiningKey()
	if err != nil {
		return err
	}
	req, err := joinRequest(cfg, token, key)
	if err != nil {
		return err
	}
	pause := newPause(cfg.Timings.Retry, cfg.Timings.RetryMax)
	for {
		res, err := askToJoin(ctx, cfg, token, req)
		if err == nil {
			return dir.become(cfg, token, key, req, res)
		}
		if errors.Is(err, ErrBadCredential) || errors.Is(err, ErrForeign) || errors.Is(err, ErrRemoved) {
			return err
		}
		cfg.Logger.Warn().Err(err).Msg("cluster not joined yet")
		if !pause.wait(ctx) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// joiningKey returns the key that the new node is born with. It is kept from the
// first attempt on, so that an interrupted join goes on as the same node.
func (d *dataDir) joiningKey() (*ecdsa.PrivateKey, error) {
	path := d.file(joiningFile)
	der, err := os.ReadFile(path)
	if err == nil {
		key, err := x509.ParseECPrivateKey(der)
		if err != nil {
			return nil, fmt.Errorf("read key of an interrupted join: %w", err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read key of an interrupted join: %w", err)
	}
	key, err := trust.NewKey()
	if err != nil {
		return nil, err
	}
	if der, err = x509.MarshalECPrivateKey(key); err != nil {
		return nil, fmt.Errorf("marshal node key: %w", err)
	}
	return key, trust.WriteFile(path, der)
}

func joinRequest(cfg Config, token trust.JoinToken, key *ecdsa.PrivateKey) (*clusterpb.JoinRequest, error) {
	node, err := trust.BirthID(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	csr, err := trust.NewRequest(key, node)
	if err != nil {
		return nil, err
	}
	peer, err := cfg.Peer.advertisedUnbound()
	if err != nil {
		return nil, err
	}
	if portOf(peer) == "0" {
		peer = "" // The node tells it once it has bound the port.
	}
	return &clusterpb.JoinRequest{
		TokenId: string(token.ID), Secret: token.Secret, Csr: csr,
		Member: &clusterpb.Member{
			Id: string(node), Name: cfg.Name, ApiAddress: cfg.APIAdvertise, PeerAddress: peer,
			Os: cfg.Info.OS, Arch: cfg.Info.Arch, Cpus: uint32(cfg.Info.CPUs), MemoryBytes: cfg.Info.MemoryBytes,
			Runtimes: cfg.Info.Runtimes, SandboxLevel: uint32(cfg.Info.SandboxLevel), FeatureLevel: state.FeatureLevel,
		},
	}, nil
}

// askToJoin tries each address of the token once. ErrForeign only comes back if
// nobody else answered: an address may have passed to another cluster since.
func askToJoin(ctx context.Context, cfg Config, token trust.JoinToken, req *clusterpb.JoinRequest) (*clusterpb.JoinResponse, error) {
	var errs, foreign []error
	for _, address := range token.Addresses {
		var res *clusterpb.JoinResponse
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, cfg.Timings.Propose)
			defer cancel()
			config := trust.JoinClientConfig(token.CAHash, token.Cluster, joinProto)
			return callJoin(ctx, address, config, func(client clusterpb.JoinServiceClient) (err error) {
				res, err = client.Join(ctx, req)
				return err
			})
		}()
		switch {
		case err == nil:
			return res, nil
		case errors.Is(err, ErrBadCredential), errors.Is(err, ErrRemoved):
			return nil, err
		case errors.Is(err, ErrForeign):
			foreign = append(foreign, err)
		default:
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return nil, errors.Join(foreign...)
	}
	return nil, errors.Join(errs...)
}

// become checks the answer and writes the new member's directory.
func (d *dataDir) become(cfg Config, token trust.JoinToken, key *ecdsa.PrivateKey, req *clusterpb.JoinRequest, res *clusterpb.JoinResponse) error {
	authority, err := trust.ParseAuthority(res.GetAuthority(), nil)
	if err != nil {
		return err
	}
	if authority.Hash() != token.CAHash || authority.Cluster() != token.Cluster {
		return fmt.Errorf("answer is of another authority: %w", ErrForeign)
	}
	own, err := trust.NewIdentity(key, res.GetCertificate())
	if err != nil {
		return err
	}
	node := state.NodeID(req.GetMember().GetId())
	if own.Node() != node {
		return fmt.Errorf("certificate names node %s: %w", own.Node(), ErrForeign)
	}
	if _, err := trust.CreateCredentials(d.file(keysDir), authority, own, res.GetGossipKey(), nil); err != nil {
		return err
	}
	var peers []knownPeer
	for _, m := range res.GetMembers() {
		if m.GetId() != string(node) {
			peers = append(peers, knownPeer{ID: state.NodeID(m.GetId()), Peer: m.GetPeerAddress(), Gossip: m.GetGossipAddress()})
		}
	}
	if err := d.setPeers(peers); err != nil {
		return err
	}
	if err := d.setEpoch(res.GetEpoch()); err != nil {
		return err
	}
	if err := d.setIdentity(identity{ID: node, Cluster: token.Cluster, Created: cfg.Clock.Now()}); err != nil {
		return err
	}
	// The key lives on beside its certificate.
	if err := os.Remove(d.file(joiningFile)); err != nil {
		cfg.Logger.Warn().Err(err).Msg("key of the join not removed")
	}
	return nil
}

// portOf returns the port of an address, or "".
func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return port
}
