// Command function is the function that the end-to-end tests deploy: it keeps
// the ledger of its executions and misbehaves on demand.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/node/e2e/ledger"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

func main() {
	if os.Getenv(stageVariable) != "" {
		orphan()
		return
	}
	f := &function{instance: rand.Text(), home: os.Getenv("HOME")}
	covey.ServeJSON(f.handle, covey.OnInit(f.open))
}

// function is one instance.
type function struct {
	instance string
	home     string
	file     *os.File
	number   atomic.Int64
}

func (f *function) open(context.Context) error {
	file, err := os.OpenFile(filepath.Join(f.home, ledger.File), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}
	f.file = file
	return nil
}

// note writes the execution down, in one write so that a line is whole or absent.
func (f *function) note(ctx context.Context) (ledger.Execution, error) {
	call := covey.FromContext(ctx)
	e := ledger.Execution{
		Instance: f.instance, Number: f.number.Add(1), Pid: os.Getpid(), Node: call.Node, Function: call.Function,
		RequestID: call.RequestID, Attempt: call.Attempt, Began: time.Now(),
	}
	line, err := json.Marshal(e)
	if err != nil {
		return e, err
	}
	if _, err := f.file.Write(append(line, '\n')); err != nil {
		return e, fmt.Errorf("write ledger: %w", err)
	}
	covey.Logger(ctx).Info(ledger.LinePrefix + string(line))
	return e, nil
}

func (f *function) handle(ctx context.Context, in ledger.Order) (any, error) {
	e, err := f.note(ctx)
	if err != nil {
		return nil, err
	}
	switch in.Op {
	case ledger.OpNote:
		return e, wait(ctx, time.Duration(in.HoldMS)*time.Millisecond)
	case ledger.OpStay:
		return e, wait(context.WithoutCancel(ctx), time.Duration(in.HoldMS)*time.Millisecond)
	case ledger.OpHold:
		return e, f.awaitRelease(ctx)
	case ledger.OpOrphan:
		return e, leaveOrphan(in.Marker)
	case ledger.OpSpy:
		report := spy(in)
		report.Execution = e
		return report, nil
	}
	return nil, covey.Errorf("UnknownOp", "unknown operation %q", in.Op)
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *function) awaitRelease(ctx context.Context) error {
	for {
		_, err := os.Stat(filepath.Join(f.home, ledger.ReleaseFile))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
