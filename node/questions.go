package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/covey-dev/covey/executor"
	"github.com/covey-dev/covey/node/nodepb"
	"github.com/covey-dev/covey/node/usage"
)

// questions answers other nodes about this one.
type questions struct {
	nodepb.UnimplementedQuestionsServer
	node *Node
}

// Logs implements nodepb.QuestionsServer.
func (q *questions) Logs(req *nodepb.LogsRequest, stream grpc.ServerStreamingServer[nodepb.LogLine]) error {
	query := executor.LogQuery{
		App: req.GetApp(), Function: req.GetFunction(), RequestID: req.GetRequestId(),
		Tail: int(req.GetTail()), Follow: req.GetFollow(),
	}
	if since := req.GetSinceUnixNano(); since != 0 {
		query.Since = time.Unix(0, since)
	}
	return q.node.ownLogs(stream.Context(), query, func(function string, line *executor.LogLine) error {
		return stream.Send(&nodepb.LogLine{
			TimeUnixNano: line.Time.UnixNano(), App: query.App, Function: function, Version: line.Version,
			Instance: line.Instance, RequestId: line.RequestID, Stream: line.Stream, Level: line.Level, Text: textOf(*line),
		})
	})
}

// textOf is a line's message with the fields that a structured logger added.
func textOf(line executor.LogLine) string {
	if len(line.Fields) == 0 {
		return line.Message
	}
	return line.Message + " " + string(line.Fields)
}

// Usage implements nodepb.QuestionsServer.
func (q *questions) Usage(_ context.Context, req *nodepb.UsageRequest) (*nodepb.UsageReply, error) {
	reply := &nodepb.UsageReply{}
	for _, r := range q.node.journal.Rows(req.GetApp()) {
		reply.Rows = append(reply.Rows, rowToPB(r))
	}
	return reply, nil
}

func rowToPB(r usage.Row) *nodepb.UsageRow {
	return &nodepb.UsageRow{
		App: r.App, Function: r.Function, HourUnix: r.Hour, Invocations: r.Invocations, Errors: r.Errors,
		BilledMs: r.BilledMS, CpuMs: r.CPUMS, MemoryMibMs: r.MemoryMiBMS, BytesIn: r.BytesIn, BytesOut: r.BytesOut,
		ColdStarts: r.ColdStarts, InitMs: r.InitMS,
	}
}

// Explain implements nodepb.QuestionsServer.
func (q *questions) Explain(_ context.Context, req *nodepb.ExplainRequest) (*nodepb.ExplainReply, error) {
	record, ok := q.node.records.Find(req.GetRequestId())
	if !ok {
		return &nodepb.ExplainReply{}, nil
	}
	raw, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return &nodepb.ExplainReply{Found: true, Record: raw}, nil
}

// Ping implements nodepb.QuestionsServer.
func (q *questions) Ping(context.Context, *nodepb.PingRequest) (*nodepb.PingReply, error) {
	reply := &nodepb.PingReply{}
	for _, s := range q.node.settledShares() {
		reply.Settled = append(reply.Settled, &nodepb.SettledShare{
			App: string(s.function.App), Function: string(s.function.Name), Since: uint64(s.since),
		})
	}
	return reply, nil
}

// Status implements nodepb.QuestionsServer.
func (q *questions) Status(context.Context, *nodepb.StatusRequest) (*nodepb.StatusReply, error) {
	return q.node.selfStatus(), nil
}

// selfStatus is what only this node knows of itself.
func (n *Node) selfStatus() *nodepb.StatusReply {
	reply := &nodepb.StatusReply{
		MemoryBudgetBytes: n.memory(), StateIndex: uint64(n.cluster.View().Index()), BuildVersion: n.cfg.Build,
		SandboxWarnings: n.sandboxWarnings(),
	}
	byVersion := map[executor.Key]*nodepb.InstanceStatus{}
	of := func(key executor.Key) *nodepb.InstanceStatus {
		s := byVersion[key]
		if s == nil {
			load := n.exec.Load(key)
			s = &nodepb.InstanceStatus{
				App: key.App, Function: key.Function, Version: key.Version, Instances: int64(load.Instances),
				Starting: int64(load.Starting), InFlight: int64(load.InFlight), Queued: int64(load.Queued),
			}
			byVersion[key] = s
			reply.Functions = append(reply.Functions, s)
			reply.Instances += s.GetInstances()
			reply.InFlight += s.GetInFlight()
			reply.Queued += s.GetQueued()
		}
		return s
	}
	for _, in := range n.exec.Instances() {
		of(in.Key)
		reply.MemoryUsedBytes += in.MemoryLimit
	}
	for _, f := range n.exec.Failing() {
		of(f.Key).Problem = fmt.Sprintf("ended %d times in a row: %s", f.Failures, f.Reason)
	}
	return reply
}
