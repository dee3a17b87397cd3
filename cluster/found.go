package cluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/cluster/trust"
)

const (
	// firstJoinToken is how long the join token lives that Init makes.
	firstJoinToken = time.Hour

	pendingFile = "pending"
	restoreFile = "restore"
)

// InitResult is what the founder of a cluster is told, once.
type InitResult struct {
	ClusterID state.ClusterID
	NodeID    state.NodeID
	// AdminToken is the secret of the first API token, which may do everything and
	// does not expire.
	AdminToken string
	// JoinToken lets machines join for an hour. Empty if the peer port is not known
	// yet; see Cluster.CreateJoinToken.
	JoinToken string
	// LostKeys are the access keys of a backup that were left out, because the key
	// that opens their secrets is in no backup. Their holders need new ones.
	LostKeys []*state.Token
}

// Init makes the data directory of a new cluster's first node: ids, certificate
// authority, keys and first tokens. Open and Run bring it to life. It fails with
// ErrExists if the directory holds a node already: there is no way to found a
// second cluster by accident.
func Init(_ context.Context, cfg Config) (*InitResult, error) {
	result, err := found(cfg, nil)
	if err != nil {
		return nil, fmt.Errorf("init cluster: %w", err)
	}
	return result, nil
}

// found makes the data directory of a new cluster, empty or with the state of
// another.
func found(cfg Config, view *state.View) (*InitResult, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, err := openDataDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if _, err := dir.identity(); !errors.Is(err, ErrNotFounded) {
		return nil, errors.Join(ErrExists, err)
	}
	now := cfg.Clock.Now()
	id, authority, err := foundKeys(dir, now)
	if err != nil {
		return nil, err
	}
	result := &InitResult{ClusterID: id.Cluster, NodeID: id.ID}
	commands, err := firstCommands(cfg, authority, result)
	if err != nil {
		return nil, err
	}
	if view != nil {
		for _, k := range view.Tokens() {
			if k.Kind == clusterpb.TokenKind_TOKEN_KIND_ACCESS_KEY {
				result.LostKeys = append(result.LostKeys, k)
			}
		}
		var b bytes.Buffer
		if err := view.Refound(id.Cluster).Snapshot(&b); err != nil {
			return nil, err
		}
		if err := trust.WriteFile(dir.file(restoreFile), b.Bytes()); err != nil {
			return nil, err
		}
	}
	if err := dir.setPending(commands); err != nil {
		return nil, err
	}
	if err := dir.setEpoch(uuid.NewString()); err != nil {
		return nil, err
	}
	if err := trust.WriteFile(dir.file(foundingFile), nil); err != nil {
		return nil, err
	}
	// Last: before it, the directory is nobody's.
	return result, dir.setIdentity(id)
}

// foundKeys makes the authority and the first node's certificate.
func foundKeys(dir *dataDir, now time.Time) (identity, *trust.Authority, error) {
	fail := func(err error) (identity, *trust.Authority, error) { return identity{}, nil, err }
	cluster := state.ClusterID(uuid.NewString())
	authority, err := trust.NewAuthority(cluster, now)
	if err != nil {
		return fail(err)
	}
	key, err := trust.NewKey()
	if err != nil {
		return fail(err)
	}
	node, err := trust.BirthID(&key.PublicKey)
	if err != nil {
		return fail(err)
	}
	csr, err := trust.NewRequest(key, node)
	if err != nil {
		return fail(err)
	}
	certificate, err := authority.Sign(csr, node, now)
	if err != nil {
		return fail(err)
	}
	own, err := trust.NewIdentity(key, certificate)
	if err != nil {
		return fail(err)
	}
	_, err = trust.CreateCredentials(dir.file(keysDir), authority, own, trust.NewSymmetricKey(), trust.NewSymmetricKey())
	return identity{ID: node, Cluster: cluster, Created: now}, authority, err
}

// firstCommands returns what the first leadership commits, and fills in the
// secrets of the tokens.
func firstCommands(cfg Config, authority *trust.Authority, result *InitResult) ([]*clusterpb.Command, error) {
	result.AdminToken = cfg.AdminToken
	if result.AdminToken == "" {
		result.AdminToken = "covey_" + trust.NewSecret()
	}
	commands := []*clusterpb.Command{
		{Op: &clusterpb.Command_FoundCluster{FoundCluster: &clusterpb.FoundCluster{
			ClusterId: string(result.ClusterID), FeatureLevel: state.FeatureLevel,
		}}},
		{Op: &clusterpb.Command_PutToken{PutToken: &clusterpb.PutToken{Token: &clusterpb.Token{
			Id: ulid.Make().String(), Hash: secretHash(result.AdminToken), Kind: clusterpb.TokenKind_TOKEN_KIND_API,
			Scopes: []clusterpb.Scope{clusterpb.Scope_SCOPE_ADMIN}, Description: "first admin token",
		}}}},
	}
	address, err := cfg.Peer.advertisedUnbound()
	if err != nil {
		return nil, err
	}
	if portOf(address) != "0" {
		token, command := newJoinToken(authority, []string{address}, cfg.Clock.Now().Add(firstJoinToken), 0)
		result.JoinToken = token
		commands = append(commands, command)
	}
	for _, command := range commands {
		command.Id, command.Level = ulid.Make().String(), 1
		command.TimeUnixMs = cfg.Clock.Now().UnixMilli()
	}
	return commands, nil
}

// newJoinToken makes a join token and the command that lets it open something.
func newJoinToken(authority *trust.Authority, addresses []string, expires time.Time, uses int) (string, *clusterpb.Command) {
	token := trust.JoinToken{
		CAHash: authority.Hash(), Cluster: authority.Cluster(), Addresses: addresses,
		ID: state.TokenID(ulid.Make().String()), Secret: trust.NewSecret(),
	}
	return token.String(), &clusterpb.Command{Op: &clusterpb.Command_PutToken{PutToken: &clusterpb.PutToken{
		Token: &clusterpb.Token{
			Id: string(token.ID), Hash: secretHash(token.Secret), Kind: clusterpb.TokenKind_TOKEN_KIND_JOIN,
			Description: "join token", ExpiresUnixMs: expires.UnixMilli(), Uses: uint32(uses),
		},
	}}}
}

// secretHash is how the state knows a secret.
func secretHash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// setPending writes commands down that this node commits when it first leads.
func (d *dataDir) setPending(commands []*clusterpb.Command) error {
	var b bytes.Buffer
	for _, command := range commands {
		if _, err := protodelim.MarshalTo(&b, command); err != nil {
			return fmt.Errorf("write pending commands: %w", err)
		}
	}
	return trust.WriteFile(d.file(pendingFile), b.Bytes())
}

// pending reads what setPending wrote; ok is false if there is nothing to do.
func (d *dataDir) pending() (commands []*clusterpb.Command, ok bool, err error) {
	data, err := os.ReadFile(d.file(pendingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read pending commands: %w", err)
	}
	for r := bufio.NewReader(bytes.NewReader(data)); ; {
		command := &clusterpb.Command{}
		err := protodelim.UnmarshalFrom(r, command)
		if errors.Is(err, io.EOF) {
			return commands, true, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("read pending commands: %w", err)
		}
		commands = append(commands, command)
	}
}

// clearPending forgets what is committed. The mark of the founding goes first: it
// alone allows a second Raft log.
func (d *dataDir) clearPending() error {
	for _, name := range []string{foundingFile, restoreFile, pendingFile} {
		if err := os.Remove(d.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clear pending commands: %w", err)
		}
	}
	return nil
}

// commitPending commits what the founding or a recovery left. It runs on the
// leader and may be repeated: what is done already is refused or changes nothing.
func (c *Cluster) commitPending(ctx context.Context) error {
	commands, ok, err := c.dir.pending()
	if err != nil || !ok {
		return err
	}
	if c.View().ClusterID() == "" {
		if err := c.installRestored(ctx); err != nil {
			return err
		}
	}
	commands = append(commands, &clusterpb.Command{Op: &clusterpb.Command_PutMember{
		PutMember: &clusterpb.PutMember{Member: c.describe()},
	}})
	for _, command := range commands {
		result, err := c.proposeHere(ctx, c.complete(command))
		if err != nil {
			return fmt.Errorf("commit pending command: %w", err)
		}
		if r := result.GetRefusal(); r != nil && r.GetCode() != clusterpb.RefusalCode_REFUSAL_CODE_EXISTS &&
			r.GetCode() != clusterpb.RefusalCode_REFUSAL_CODE_NOT_FOUND {
			return fmt.Errorf("commit pending command: %w", state.Refused(result))
		}
	}
	return c.dir.clearPending()
}

// installRestored makes the state of a backup the first state of the new cluster.
func (c *Cluster) installRestored(ctx context.Context) error {
	data, err := os.ReadFile(c.dir.file(restoreFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("install restored state: %w", err)
	}
	return c.group.Install(ctx, int64(len(data)), bytes.NewReader(data))
}
