package lambda

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/covey-dev/covey/plugins/frame"
	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

const (
	defaultRegion = "us-east-1"
	// noAccount stands for the app "default" in the place of an account's number.
	noAccount  = "000000000000"
	defaultApp = "default"
	// attributeClientContext is the attribute in which the node's Lambda routes hand over a client context.
	attributeClientContext = "lambda-client-context"
)

// identity is who the function is, in Lambda's terms.
type identity struct {
	began    time.Time // when the function became known
	arn      string
	version  string
	timeout  time.Duration
	stream   string       // the name of the log stream, which nothing is read from
	initTime atomic.Int64 // taken by the first call's report
}

// prepare does what needs no function.
func (i *identity) prepare() {
	var b [16]byte
	_, _ = rand.Read(b[:]) // It never fails.
	i.stream = hex.EncodeToString(b[:])
}

// become takes the function over.
func (i *identity) become(s *covey.Setup, _ *program) {
	i.began = time.Now()
	i.version = strconv.FormatUint(s.Version, 10)
	i.timeout = s.Timeout
	account := s.App
	if account == "" || account == defaultApp {
		account = noAccount
	}
	i.arn = "arn:aws:lambda:" + region(s.Env) + ":" + account + ":function:" + s.Function + ":" + i.version
}

// ready notes how long it took until the program asked for its first event.
func (i *identity) ready() { i.initTime.CompareAndSwap(0, int64(time.Since(i.began))) }

// takeInit returns that time once, and zero later.
func (i *identity) takeInit() time.Duration {
	if i.initTime.Load() <= 0 {
		return 0
	}
	return time.Duration(i.initTime.Swap(-1))
}

func region(env frame.Attributes) string {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if v := env.Get(name); v != "" {
			return v
		}
	}
	return defaultRegion
}

// appendHeaders appends what the program is told of a call beside its event.
func (i *identity) appendHeaders(b []byte, c *call) []byte {
	deadline := c.Deadline
	if deadline.IsZero() {
		deadline = time.Now().Add(i.timeout)
	}
	b = append(append(b, "Lambda-Runtime-Aws-Request-Id: "...), headerValue(c.RequestID)...)
	b = append(b, "\r\nLambda-Runtime-Deadline-Ms: "...)
	b = strconv.AppendInt(b, deadline.UnixMilli(), 10)
	b = append(append(b, "\r\nLambda-Runtime-Invoked-Function-Arn: "...), i.arn...)
	if t := xrayTrace(c.Trace); t != "" {
		b = append(append(b, "\r\nLambda-Runtime-Trace-Id: "...), t...)
	}
	if t := headerJSON(c.Attributes[attributeClientContext]); t != "" {
		b = append(append(b, "\r\nLambda-Runtime-Client-Context: "...), t...)
	}
	return append(b, "\r\n"...)
}

// headerValue keeps a value from ending its header. The node's request ids never need it.
func headerValue(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// variables is an environment in which each name stands once.
type variables map[string]string

// list returns the environment in the form that the system takes, in order of names.
func (v variables) list() []string {
	out := make([]string, 0, len(v))
	for name, value := range v {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}

// environment is the program's whole environment: what Lambda sets under what the function's own environment may
// change, and above it what it may not.
func (i *identity) environment(s *covey.Setup, p *program, api string) []string {
	v := variables{
		"AWS_REGION": defaultRegion, "TZ": ":UTC", "LANG": "C.UTF-8", "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
		// Structured lines keep their level and their call; see logs.go.
		"AWS_LAMBDA_LOG_FORMAT": "JSON",
	}
	for _, name := range []string{"HOME", "TMPDIR"} {
		if value := os.Getenv(name); value != "" {
			v[name] = value
		}
	}
	v.searchPaths(s.Code)
	for name, value := range p.env {
		v[name] = value
	}
	for _, e := range s.Env {
		v[e.Name] = e.Value
	}
	v["AWS_REGION"] = region(s.Env)
	v["AWS_DEFAULT_REGION"] = v["AWS_REGION"]
	if v["AWS_LAMBDA_LOG_LEVEL"] == "" && strings.EqualFold(v["AWS_LAMBDA_LOG_FORMAT"], "JSON") {
		v["AWS_LAMBDA_LOG_LEVEL"] = "INFO"
	}
	v["_HANDLER"] = p.handler
	delete(v, envExecution)
	if p.execution != "" {
		v[envExecution] = executionPrefix + p.execution
	}
	v["AWS_LAMBDA_RUNTIME_API"] = api
	v["AWS_LAMBDA_INITIALIZATION_TYPE"] = "on-demand"
	v["AWS_LAMBDA_FUNCTION_NAME"] = s.Function
	v["AWS_LAMBDA_FUNCTION_VERSION"] = i.version
	v["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = strconv.FormatUint(megabytes(s.Memory), 10)
	v["AWS_LAMBDA_LOG_GROUP_NAME"] = "/aws/lambda/" + s.Function
	v["AWS_LAMBDA_LOG_STREAM_NAME"] = i.began.UTC().Format("2006/01/02") + "/[" + i.version + "]" + i.stream
	v["LAMBDA_TASK_ROOT"] = s.Code
	v["LAMBDA_RUNTIME_DIR"] = p.clients
	delete(v, "AWS_LAMBDA_MAX_CONCURRENCY")
	if s.Concurrency > 1 {
		v["AWS_LAMBDA_MAX_CONCURRENCY"] = strconv.FormatUint(uint64(s.Concurrency), 10)
	}
	return v.list()
}

// searchPaths sets where programs, libraries and modules are looked for: in the package and in its layers.
func (v variables) searchPaths(code string) {
	roots := layers(code)
	within := func(folders ...string) []string {
		var out []string
		for _, root := range roots {
			for _, f := range folders {
				out = append(out, filepath.Join(root, f))
			}
		}
		return out
	}
	join := func(lists ...[]string) string { return strings.Join(slices.Concat(lists...), ":") }
	v["PATH"] = join([]string{"/usr/local/bin", "/usr/bin", "/bin"}, within("bin"))
	v["LD_LIBRARY_PATH"] = join([]string{code, filepath.Join(code, "lib")}, within("lib"))
	if len(roots) > 0 {
		v["PYTHONPATH"] = join(within("python"))
		v["NODE_PATH"] = join(within("nodejs/node_modules"))
	}
}

// layers returns the folders that Lambda would show merged at /opt, the one that wins first. A package brings them
// along in opt (merged already) or in layers, each in its own folder; there a later name wins.
func layers(code string) []string {
	var out []string
	if entries, err := os.ReadDir(filepath.Join(code, "layers")); err == nil {
		for _, e := range slices.Backward(entries) {
			if e.IsDir() {
				out = append(out, filepath.Join(code, "layers", e.Name()))
			}
		}
	}
	if opt := filepath.Join(code, "opt"); isFolder(opt) {
		out = append(out, opt)
	}
	return out
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// megabytes is a limit as Lambda counts it; no limit counts as Lambda's greatest.
func megabytes(memory uint64) uint64 {
	const greatest = 10240
	if memory == 0 {
		return greatest
	}
	return memory >> 20
}
