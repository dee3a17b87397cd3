package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/internal/blob"
	"github.com/covey-dev/covey/node/api"
	"github.com/covey-dev/covey/node/nodepb"
)

// blobTransport reaches the blob stores of other nodes over gRPC.
type blobTransport struct {
	conn func(ctx context.Context, node state.NodeID) (*grpc.ClientConn, error)
}

var _ blob.Transport = (*blobTransport)(nil)

func (t *blobTransport) client(ctx context.Context, node string) (nodepb.BlobsClient, error) {
	conn, err := t.conn(ctx, state.NodeID(node))
	if err != nil {
		return nil, err
	}
	return nodepb.NewBlobsClient(conn), nil
}

// Has implements blob.Transport.
func (t *blobTransport) Has(ctx context.Context, node string, digests []blob.Digest) ([]bool, error) {
	c, err := t.client(ctx, node)
	if err != nil {
		return nil, err
	}
	req := &nodepb.BlobHasRequest{Digests: make([][]byte, len(digests))}
	for i := range digests {
		req.Digests[i] = digests[i][:]
	}
	reply, err := c.Has(ctx, req)
	if err != nil {
		return nil, blobFromStatus(err)
	}
	if len(reply.GetHas()) != len(digests) {
		return nil, fmt.Errorf("node %s answered for %d of %d digests", node, len(reply.GetHas()), len(digests))
	}
	return reply.GetHas(), nil
}

// Get implements blob.Transport.
func (t *blobTransport) Get(ctx context.Context, node string, d blob.Digest, offset int64, buf []byte) (n int, size int64, err error) {
	c, err := t.client(ctx, node)
	if err != nil {
		return 0, 0, err
	}
	reply, err := c.Get(ctx, &nodepb.BlobGetRequest{Digest: d[:], Offset: offset, Length: int64(len(buf))})
	if err != nil {
		return 0, 0, blobFromStatus(err)
	}
	return copy(buf, reply.GetData()), reply.GetSize(), nil
}

// Put implements blob.Transport.
func (t *blobTransport) Put(ctx context.Context, node string, chunk blob.Chunk) (next int64, err error) {
	c, err := t.client(ctx, node)
	if err != nil {
		return 0, err
	}
	reply, err := c.Put(ctx, &nodepb.BlobPutRequest{Digest: chunk.Digest[:], Size: chunk.Size, Offset: chunk.Offset, Data: chunk.Data})
	if err != nil {
		return 0, blobFromStatus(err)
	}
	return reply.GetNext(), nil
}

// blobServer answers other nodes' transports from this node's store.
type blobServer struct {
	nodepb.UnimplementedBlobsServer
	store *blob.Store
}

// Has implements nodepb.BlobsServer.
func (s *blobServer) Has(_ context.Context, req *nodepb.BlobHasRequest) (*nodepb.BlobHasReply, error) {
	digests := make([]blob.Digest, len(req.GetDigests()))
	for i, raw := range req.GetDigests() {
		d, err := digestOf(raw)
		if err != nil {
			return nil, err
		}
		digests[i] = d
	}
	return &nodepb.BlobHasReply{Has: s.store.ServeHas(digests)}, nil
}

// Get implements nodepb.BlobsServer.
func (s *blobServer) Get(ctx context.Context, req *nodepb.BlobGetRequest) (*nodepb.BlobGetReply, error) {
	d, err := digestOf(req.GetDigest())
	if err != nil {
		return nil, err
	}
	buf := make([]byte, min(max(req.GetLength(), 0), blob.ChunkMax))
	n, size, err := s.store.ServeGet(ctx, d, req.GetOffset(), buf)
	if err != nil {
		return nil, blobToStatus(err)
	}
	return &nodepb.BlobGetReply{Data: buf[:n], Size: size}, nil
}

// Put implements nodepb.BlobsServer.
func (s *blobServer) Put(ctx context.Context, req *nodepb.BlobPutRequest) (*nodepb.BlobPutReply, error) {
	d, err := digestOf(req.GetDigest())
	if err != nil {
		return nil, err
	}
	next, err := s.store.ServePut(ctx, blob.Chunk{Digest: d, Size: req.GetSize(), Offset: req.GetOffset(), Data: req.GetData()})
	if err != nil {
		return nil, blobToStatus(err)
	}
	return &nodepb.BlobPutReply{Next: next}, nil
}

func digestOf(raw []byte) (blob.Digest, error) {
	var d blob.Digest
	if copy(d[:], raw) != len(d) || len(raw) != len(d) {
		return d, status.Errorf(codes.InvalidArgument, "digest of %d bytes", len(raw))
	}
	return d, nil
}

// blobCodes are the errors of the blob store that cross between nodes.
func blobCodes() map[codes.Code]error {
	return map[codes.Code]error{
		codes.NotFound:           blob.ErrNotFound,
		codes.ResourceExhausted:  blob.ErrNoSpace,
		codes.Aborted:            blob.ErrBusy,
		codes.InvalidArgument:    blob.ErrBadChunk,
		codes.OutOfRange:         blob.ErrTooLarge,
		codes.DataLoss:           blob.ErrMismatch,
		codes.FailedPrecondition: blob.ErrClosed,
	}
}

// blobToStatus turns an error of the store into what crosses the wire.
func blobToStatus(err error) error {
	for code, known := range blobCodes() {
		if errors.Is(err, known) {
			return status.Error(code, err.Error())
		}
	}
	return err
}

// blobFromStatus is the inverse of blobToStatus.
func blobFromStatus(err error) error {
	if known, ok := blobCodes()[status.Code(err)]; ok {
		return fmt.Errorf("%w: %w", known, err)
	}
	return err
}

// codeStore is the blob store with digests as the cluster's state writes them.
type codeStore struct{ store *blob.Store }

// uploads is the blob store as the API uploads to it.
type uploads struct {
	store   *blob.Store
	cluster *cluster.Cluster
}

var _ api.Code = uploads{}

// Put implements api.Code. A cluster that lost its quorum often lost the owners of
// the code too. The quorum is then what the caller must hear of: a deploy would
// fail wherever the code went.
func (u uploads) Put(ctx context.Context, r io.Reader) (digest string, size int64, err error) {
	d, size, err := u.store.Put(ctx, r)
	if errors.Is(err, blob.ErrNotDurable) {
		ask, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		if _, lost := u.cluster.Consistent(ask); lost != nil {
			err = fmt.Errorf("%w: %w", controlError(lost), err)
		}
	}
	return d.String(), size, err
}

// open opens the code with the given digest, for the executor.
func (c codeStore) open(ctx context.Context, digest string) (*os.File, error) {
	d, err := blob.ParseDigest(digest)
	if err != nil {
		return nil, err
	}
	return c.store.Open(ctx, d)
}

// errBehind keeps the blob store from deleting by a state that may be old.
var errBehind = errors.New("this node's state may be behind the cluster's")

// blobOwners are the members in the order in which they own a digest.
func (n *Node) blobOwners(d blob.Digest) []string {
	members := n.cluster.View().Members()
	ids := make([]string, 0, len(members))
	for _, m := range members {
		ids = append(ids, string(m.ID))
	}
	return blob.Rank(d, ids)
}

func (n *Node) blobAlive(node string) bool {
	id := state.NodeID(node)
	if id == n.cluster.ID() {
		return true
	}
	for _, p := range *n.peers.Load() {
		if p.ID == id {
			return p.Alive
		}
	}
	return false
}

// blobNamed yields every digest that the cluster names.
func (n *Node) blobNamed() (iter.Seq[blob.Digest], error) {
	if n.cluster.Leader() == "" {
		return nil, errBehind
	}
	view := n.cluster.View()
	return func(yield func(blob.Digest) bool) {
		for text := range view.Digests() {
			if d, err := blob.ParseDigest(text); err == nil && !yield(d) {
				return
			}
		}
	}, nil
}
