package node

import (
	"context"
	"sync"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/nodepb"
)

// askTimeout bounds a question to another node: an operator rather reads "did not
// answer" than waits.
const askTimeout = 2 * time.Second

// answerer is a node that answers questions: this one, or another over gRPC.
type answerer interface {
	Usage(ctx context.Context, req *nodepb.UsageRequest) (*nodepb.UsageReply, error)
	Explain(ctx context.Context, req *nodepb.ExplainRequest) (*nodepb.ExplainReply, error)
	Status(ctx context.Context, req *nodepb.StatusRequest) (*nodepb.StatusReply, error)
	Traffic(ctx context.Context, req *nodepb.TrafficRequest) (*nodepb.TrafficReply, error)
}

var (
	_ answerer = (*questions)(nil)
	_ answerer = otherNode{}
)

// otherNode asks over gRPC.
type otherNode struct{ client nodepb.QuestionsClient }

func (o otherNode) Usage(ctx context.Context, req *nodepb.UsageRequest) (*nodepb.UsageReply, error) {
	return o.client.Usage(ctx, req)
}

func (o otherNode) Explain(ctx context.Context, req *nodepb.ExplainRequest) (*nodepb.ExplainReply, error) {
	return o.client.Explain(ctx, req)
}

func (o otherNode) Status(ctx context.Context, req *nodepb.StatusRequest) (*nodepb.StatusReply, error) {
	return o.client.Status(ctx, req)
}

func (o otherNode) Traffic(ctx context.Context, req *nodepb.TrafficRequest) (*nodepb.TrafficReply, error) {
	return o.client.Traffic(ctx, req)
}

// ask puts a question to every member at once, this node included, and returns
// once all have answered or failed. It calls do on a goroutine per node.
func (n *Node) ask(ctx context.Context, do func(ctx context.Context, m *state.Member, a answerer) error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, m := range n.cluster.View().Members() {
		wg.Go(func() {
			a, err := n.answerer(ctx, m.ID)
			if err == nil {
				err = do(ctx, m, a)
			}
			if err != nil {
				n.log.Debug().Str("peer", string(m.ID)).Err(err).Msg("node did not answer")
			}
		})
	}
	wg.Wait()
}

func (n *Node) answerer(ctx context.Context, id state.NodeID) (answerer, error) {
	if id == n.cluster.ID() {
		return &questions{node: n}, nil
	}
	conn, err := n.cluster.Conn(ctx, id)
	if err != nil {
		return nil, err
	}
	return otherNode{nodepb.NewQuestionsClient(conn)}, nil
}
