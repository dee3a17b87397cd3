package node

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/node/api"
	"github.com/covey-dev/covey/node/nodepb"
)

// tailBytes is how much of a call's log goes back with its answer: Lambda's limit.
const tailBytes = 4 << 10

// Logs implements api.Operations. Without Follow the lines of all nodes that
// answer are merged by time; with it they come as they are written.
func (o operations) Logs(ctx context.Context, query api.LogQuery) iter.Seq2[api.LogLine, error] {
	return func(yield func(api.LogLine, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		lines := make(chan api.LogLine)
		var readers sync.WaitGroup
		for _, m := range o.node.cluster.View().Members() {
			readers.Go(func() {
				err := o.node.readLogs(ctx, m, query, lines)
				if err != nil && ctx.Err() == nil {
					o.node.log.Debug().Str("peer", string(m.ID)).Err(err).Msg("node gave no logs")
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
func (n *Node) readLogs(ctx context.Context, m *state.Member, query api.LogQuery, out chan<- api.LogLine) error {
	if m.ID == n.cluster.ID() {
		return n.readOwnLogs(ctx, query, out)
	}
	if !query.Follow {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 5*askTimeout)
		defer cancel()
	}
	conn, err := n.cluster.Conn(ctx, m.ID)
	if err != nil {
		return err
	}
	req := &nodepb.LogsRequest{
		App: query.App, Function: query.Function, RequestId: query.RequestID, Tail: int32(query.Tail), Follow: query.Follow,
	}
	if !query.Since.IsZero() {
		req.SinceUnixNano = query.Since.UnixNano()
	}
	stream, err := nodepb.NewQuestionsClient(conn).Logs(ctx, req)
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
			Node: string(m.ID), Instance: l.GetInstance(), RequestID: l.GetRequestId(), Stream: l.GetStream(), Level: l.GetLevel(), Text: l.GetText(),
		}
		if !send(ctx, out, line) {
			return ctx.Err()
		}
	}
}

func (n *Node) readOwnLogs(ctx context.Context, query api.LogQuery, out chan<- api.LogLine) error {
	for l, err := range n.exec.Logs(ctx, executor.LogQuery{
		App: query.App, Function: query.Function, RequestID: query.RequestID, Since: query.Since, Tail: query.Tail, Follow: query.Follow,
	}) {
		if err != nil {
			return err
		}
		line := api.LogLine{
			Time: l.Time, App: query.App, Function: query.Function, Version: l.Version, Node: string(n.cluster.ID()),
			Instance: l.Instance, RequestID: l.RequestID, Stream: l.Stream, Level: l.Level, Text: textOf(l),
		}
		if !send(ctx, out, line) {
			return ctx.Err()
		}
	}
	return nil
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
