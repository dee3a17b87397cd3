package node

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/covey-dev/covey/cluster"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/node/api"
	"github.com/covey-dev/covey/node/nodepb"
)

// tailBytes is how much of a call's log goes back with its answer: Lambda's limit.
const tailBytes = 4 << 10

// Logs implements api.Operations. Without Follow the lines of all nodes that
// answer are merged by time; with it they come as they are written. A node that
// did not give all its lines is named in a line of its own, so that nobody takes
// what is there for everything.
func (o operations) Logs(ctx context.Context, query api.LogQuery) iter.Seq2[api.LogLine, error] {
	return func(yield func(api.LogLine, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		lines := make(chan api.LogLine)
		var readers sync.WaitGroup
		for _, p := range o.node.cluster.Peers() {
			readers.Go(func() {
				err := o.node.readLogs(ctx, &p, query, lines)
				if err != nil && ctx.Err() == nil {
					o.node.log.Debug().Str("peer", string(p.ID)).Err(err).Msg("node gave no logs")
					send(ctx, lines, o.node.missingLogs(&p, query))
				}
			})
		}
		var closer sync.WaitGroup
		closer.Go(func() { // ends when the readers have, which cancel makes sure of
			readers.Wait()
			close(lines)
		})
		defer closer.Wait()
		defer cancel()
		if query.Follow {
			for line := range lines {
				if !yield(line, nil) {
					return
				}
			}
			return
		}
		for _, line := range merged(lines, query.Tail) {
			if !yield(line, nil) {
				return
			}
		}
	}
}

// missingLogs is the line that stands for those which a node did not give. It is
// of now, and so the last of a log that is not followed.
func (n *Node) missingLogs(p *cluster.Peer, query api.LogQuery) api.LogLine {
	return api.LogLine{
		Time: n.cfg.Clock.Now().UTC(), App: query.App, Function: query.Function, Node: string(p.ID), RequestID: query.RequestID,
		Stream: executor.StreamPlatform, Level: "warn", Text: "lines of node " + p.Name + " may be missing: it did not answer",
	}
}

// merged collects lines in order of time and keeps the newest tail of them, all
// if it is zero.
func merged(lines <-chan api.LogLine, tail int) []api.LogLine {
	var all []api.LogLine
	for line := range lines {
		all = append(all, line)
	}
	slices.SortStableFunc(all, func(a, b api.LogLine) int { return a.Time.Compare(b.Time) })
	if tail > 0 && len(all) > tail {
		all = all[len(all)-tail:]
	}
	return all
}

// readLogs sends one node's lines until there are no more or ctx ends.
func (n *Node) readLogs(ctx context.Context, p *cluster.Peer, query api.LogQuery, out chan<- api.LogLine) error {
	if p.Self {
		return n.readOwnLogs(ctx, query, out)
	}
	if !query.Follow {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 5*askTimeout)
		defer cancel()
	}
	conn, err := n.cluster.Conn(ctx, p.ID)
	if err != nil {
		return err
	}
	req := &nodepb.LogsRequest{
		App: query.App, Function: query.Function, RequestId: query.RequestID, Tail: int32(query.Tail), Follow: query.Follow,
	}
	if !query.Since.IsZero() {
		req.SinceUnixNano = query.Since.UnixNano()
	}
	// One that came back a moment ago may still be waiting for its next dial.
	stream, err := nodepb.NewQuestionsClient(conn).Logs(ctx, req, grpc.WaitForReady(p.Alive))
	if err != nil {
		return err
	}
	for {
		l, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line := api.LogLine{
			Time: time.Unix(0, l.GetTimeUnixNano()), App: l.GetApp(), Function: l.GetFunction(), Version: l.GetVersion(),
			Node: string(p.ID), Instance: l.GetInstance(), RequestID: l.GetRequestId(), Stream: l.GetStream(), Level: l.GetLevel(), Text: l.GetText(),
		}
		if !send(ctx, out, line) {
			return ctx.Err()
		}
	}
}

func (n *Node) readOwnLogs(ctx context.Context, query api.LogQuery, out chan<- api.LogLine) error {
	return n.ownLogs(ctx, executor.LogQuery{
		App: query.App, Function: query.Function, RequestID: query.RequestID, Since: query.Since, Tail: query.Tail, Follow: query.Follow,
	}, func(function string, l *executor.LogLine) error {
		line := api.LogLine{
			Time: l.Time, App: query.App, Function: function, Version: l.Version, Node: string(n.cluster.ID()),
			Instance: l.Instance, RequestID: l.RequestID, Stream: l.Stream, Level: l.Level, Text: textOf(*l),
		}
		if !send(ctx, out, line) {
			return ctx.Err()
		}
		return nil
	})
}

// ownLogs passes this node's lines of a function to add, or those of all functions
// that the app has now if the query names none. It ends with the first error.
func (n *Node) ownLogs(ctx context.Context, query executor.LogQuery, add func(function string, l *executor.LogLine) error) error {
	functions := []string{query.Function}
	if query.Function == "" {
		functions = functions[:0]
		for _, f := range n.cluster.View().Functions(state.AppName(query.App)) {
			functions = append(functions, string(f.Name))
		}
	}
	// Following takes a reader for each function, and they take turns with add.
	var turns sync.Mutex
	readers, ctx := errgroup.WithContext(ctx)
	if !query.Follow {
		readers.SetLimit(1)
	}
	for _, name := range functions {
		readers.Go(func() error {
			q := query
			q.Function = name
			for l, err := range n.exec.Logs(ctx, q) {
				if err == nil {
					turns.Lock()
					err = add(name, &l)
					turns.Unlock()
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return readers.Wait()
}

func send(ctx context.Context, out chan<- api.LogLine, line api.LogLine) bool {
	select {
	case out <- line:
		return true
	case <-ctx.Done():
		return false
	}
}

// logTail is the end of what a call that ran here has logged.
func (n *Node) logTail(key state.FunctionKey, requestID string) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	var tail []byte
	for line, err := range n.exec.Logs(ctx, executor.LogQuery{App: string(key.App), Function: string(key.Name), RequestID: requestID}) {
		if err != nil {
			break
		}
		tail = append(append(tail, textOf(line)...), '\n')
	}
	return tail[max(0, len(tail)-tailBytes):]
}
