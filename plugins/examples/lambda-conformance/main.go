// Command lambda-conformance is the Lambda program in Go that the conformance suite of plugins/plugintest drives. It
// is an ordinary bootstrap made with AWS's library, and knows nothing of Covey but the suite's vocabulary.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

func main() {
	switch os.Getenv(program.EnvInit) {
	case program.InitError:
		log.Fatal("no nest")
	case program.InitPanic:
		panic("no nest")
	case program.InitExit:
		os.Exit(4)
	}
	s := &server{met: make(map[int]chan struct{}), waiting: make(map[int]int)}
	if os.Getenv(program.EnvStream) != "" {
		lambda.Start(s.stream)
	}
	lambda.Start(s.handle)
}

// server is the state of one program.
type server struct {
	mu      sync.Mutex
	met     map[int]chan struct{} // guarded by mu; closed when so many calls are there
	waiting map[int]int           // guarded by mu
}

// handle runs one operation.
func (s *server) handle(ctx context.Context, in program.Input) (any, error) {
	switch in.Op {
	case program.OpEcho:
		return program.Output{Data: in.Data}, nil
	case program.OpContext:
		return seen(ctx)
	case program.OpError:
		return nil, messages.InvokeResponse_Error{Type: in.Type, Message: in.Data}
	case program.OpPanic:
		panic(in.Data)
	case program.OpExit:
		os.Exit(in.N)
	case program.OpHang:
		select {}
	case program.OpHash:
		sum := sha256.Sum256([]byte(in.Data))
		return program.Output{N: len(in.Data), Data: hex.EncodeToString(sum[:])}, nil
	case program.OpProduce:
		return strings.Repeat("x", in.N-2), nil
	case program.OpMeet:
		return program.Output{N: in.N}, s.meet(ctx, in.N)
	case program.OpLog:
		lambdacontext.NewLogger().InfoContext(ctx, in.Data, "field", 1)
		return program.Output{}, nil
	case program.OpEnv:
		return program.Output{Data: os.Getenv(in.Data)}, nil
	case program.OpAllocate:
		return program.Output{N: allocate(in.N)}, nil
	}
	return nil, fmt.Errorf("unknown operation %q", in.Op)
}

// seen reads Lambda's context in the suite's terms: the app is the account of the function's ARN, and the trace is
// in the form of AWS X-Ray.
func seen(ctx context.Context) (program.Seen, error) {
	lc, ok := lambdacontext.FromContext(ctx)
	if !ok {
		return program.Seen{}, errors.New("the context does not belong to a call")
	}
	arn := strings.Split(lc.InvokedFunctionArn, ":")
	if len(arn) != 8 || arn[6] != lambdacontext.FunctionName || arn[7] != lambdacontext.FunctionVersion {
		return program.Seen{}, fmt.Errorf("the ARN is %s", lc.InvokedFunctionArn)
	}
	version, err := strconv.ParseUint(lambdacontext.FunctionVersion, 10, 64)
	if err != nil {
		return program.Seen{}, fmt.Errorf("read version: %w", err)
	}
	out := program.Seen{RequestID: lc.AwsRequestID, App: arn[4], Function: lambdacontext.FunctionName, Version: version}
	if out.App == "000000000000" {
		out.App = "default"
	}
	if f := strings.FieldsFunc(os.Getenv("_X_AMZN_TRACE_ID"), func(r rune) bool { return strings.ContainsRune("=-;", r) }); len(f) == 8 {
		out.Trace = "00-" + f[2] + f[3] + "-" + f[5] + "-0" + f[7]
	}
	if deadline, ok := ctx.Deadline(); ok {
		out.RemainingMS = time.Until(deadline).Milliseconds()
	}
	return out, nil
}

// meet waits until n calls are here.
func (s *server) meet(ctx context.Context, n int) error {
	s.mu.Lock()
	if s.met[n] == nil {
		s.met[n] = make(chan struct{})
	}
	met := s.met[n]
	s.waiting[n]++
	if s.waiting[n] == n {
		close(met)
	}
	s.mu.Unlock()
	select {
	case <-met:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// allocate writes to every page, because untouched memory costs nothing.
func allocate(n int) int {
	b := make([]byte, n)
	sum := 0
	for i := 0; i < len(b); i += 4096 {
		b[i] = byte(i>>12) | 1
		sum += int(b[i] & 1)
	}
	if sum != (n+4095)/4096 {
		return 0
	}
	return len(b)
}

// stream runs OpStream, and any other operation with its output in one piece.
func (s *server) stream(ctx context.Context, in program.Input) (io.Reader, error) {
	if in.Op == program.OpStream {
		r, w := io.Pipe()
		go write(w, in) // It ends with the last line, or with the reader.
		return r, nil
	}
	out, err := s.handle(ctx, in)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(out)
	return strings.NewReader(string(b)), err
}

func write(w *io.PipeWriter, in program.Input) {
	for i := range in.N {
		if _, err := fmt.Fprintf(w, "line %d\n", i); err != nil {
			return
		}
	}
	if in.Type != "" {
		_ = w.CloseWithError(messages.InvokeResponse_Error{Type: in.Type, Message: in.Data})
		return
	}
	_ = w.Close()
}
