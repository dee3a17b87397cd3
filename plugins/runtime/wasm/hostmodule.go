package wasm

import (
	"context"
	"errors"
	"fmt"

	"github.com/covey-dev/covey/plugins/runtime/stdio"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// hostModule is the name under which modules import what the package comment describes.
const hostModule = "covey"

// checkpointName is the function that modules call at their checkpoints. They import it without knowing.
const checkpointName = "checkpoint"

// What an answer of invoke is.
const (
	answerOutput     = 0
	answerError      = 1
	answerNotStarted = 2
)

// levels are the log levels by their number.
var levels = [...]string{"trace", "debug", "info", "warn", "error"}

// function is one function of the host: what it takes, what it returns, what it does.
type function struct {
	name    string
	params  int
	results []api.ValueType
	run     func(c *call, m api.Module, stack []uint64)
}

// exportHost makes the module "covey".
func exportHost(ctx context.Context, r wazero.Runtime) error {
	functions := []function{
		{"fail", 4, nil, func(c *call, m api.Module, stack []uint64) {
			c.failure = &covey.Error{Type: text(m, stack[0], stack[1]), Message: text(m, stack[2], stack[3])}
		}},
		{"log", 3, nil, func(c *call, m api.Module, stack []uint64) {
			level := levels[min(uint64(uint32(stack[0])), uint64(len(levels)-1))]
			c.host.log.Entry(c.requestID, level, text(m, stack[1], stack[2]))
		}},
		{"invoke", 4, []api.ValueType{api.ValueTypeI64}, func(c *call, m api.Module, stack []uint64) {
			stack[0] = c.invoke(text(m, stack[0], stack[1]), []byte(text(m, stack[2], stack[3])))
		}},
		{"result", 1, nil, func(c *call, m api.Module, stack []uint64) {
			if !m.Memory().Write(uint32(stack[0]), c.answer) {
				panic(errors.New("covey.result: the address is outside of the memory"))
			}
		}},
		{"set_content_type", 2, nil, func(c *call, m api.Module, stack []uint64) {
			covey.SetContentType(c.ctx, text(m, stack[0], stack[1]))
		}},
		{"set_status", 1, nil, func(c *call, _ api.Module, stack []uint64) {
			covey.SetStatus(c.ctx, int(uint32(stack[0])))
		}},
		{"set_attribute", 4, nil, func(c *call, m api.Module, stack []uint64) {
			covey.SetAttribute(c.ctx, text(m, stack[0], stack[1]), text(m, stack[2], stack[3]))
		}},
		{"cancelled", 0, []api.ValueType{api.ValueTypeI32}, func(c *call, _ api.Module, stack []uint64) {
			stack[0] = 0
			if c.ctx.Err() != nil {
				stack[0] = 1
			}
		}},
		{checkpointName, 0, nil, func(c *call, _ api.Module, _ []uint64) { c.check() }},
	}
	builder := r.NewHostModuleBuilder(hostModule)
	for _, f := range functions {
		params := make([]api.ValueType, f.params)
		for i := range params {
			params[i] = api.ValueTypeI32
		}
		builder.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, m api.Module, stack []uint64) {
			c, _ := ctx.Value(callKey{}).(*call)
			f.run(c, m, stack)
		}), params, f.results).Export(f.name)
	}
	_, err := builder.Instantiate(ctx)
	return err
}

// text copies a text out of the module's memory. A module that gives a wrong address has a trap.
func text(m api.Module, address, size uint64) string {
	b, ok := m.Memory().Read(uint32(address), uint32(size))
	if !ok {
		panic(fmt.Errorf("%d bytes at %d are outside of the memory", uint32(size), uint32(address)))
	}
	return string(b)
}

// invoke makes a host call and keeps its answer for the module to fetch.
func (c *call) invoke(name string, payload []byte) uint64 {
	output, err := covey.Invoke(c.ctx, name, payload)
	if err == nil {
		c.answer = output
		return answerOutput<<32 | uint64(uint32(len(output)))
	}
	kind := uint64(answerError)
	if errors.Is(err, covey.ErrNotStarted) {
		kind = answerNotStarted
	}
	c.answer = stdio.Encode(err)
	return kind<<32 | uint64(uint32(len(c.answer)))
}
