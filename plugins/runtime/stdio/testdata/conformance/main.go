// Command conformance is the program under test of the runtimes `exec` and `wasm`: it runs the operations of
// plugins/plugintest/program, one per process, and as a web server if it is given a port.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// failure is a typed error, as the last line on standard error or the body of an error's answer.
type failure struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

func (e *failure) Error() string { return e.Type + ": " + e.Message }

func main() {
	if initialising() {
		initialise()
		if os.Getenv(envInit) != "" {
			return
		}
	}
	if serve() {
		return
	}
	payload, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(err)
	}
	if err := handle(payload, os.Stdout); err != nil {
		fail(err)
	}
}

// initialise runs where the environment asks for a failure.
func initialise() {
	switch os.Getenv(program.EnvInit) {
	case program.InitError:
		fail(&failure{Type: "NoNest", Message: "no nest"})
	case program.InitPanic:
		panic("no nest")
	case program.InitExit:
		os.Exit(4)
	}
}

func handle(payload []byte, w io.Writer) error {
	var in program.Input
	if err := json.Unmarshal(payload, &in); err != nil {
		return &failure{Type: "BadInput", Message: err.Error()}
	}
	if in.Op == program.OpStream {
		for i := range in.N {
			if _, err := fmt.Fprintf(w, "line %d\n", i); err != nil {
				return err
			}
		}
		if in.Type != "" {
			return &failure{Type: in.Type, Message: in.Data}
		}
		return nil
	}
	out, err := operate(in)
	if err != nil {
		return err
	}
	b, err := json.Marshal(out)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// operate runs one operation whose state, if any, is in files: each call is a process of its own.
func operate(in program.Input) (any, error) {
	switch in.Op {
	case program.OpEcho:
		return program.Output{Data: in.Data}, nil
	case program.OpContext:
		return seen(), nil
	case program.OpError:
		return nil, &failure{Type: in.Type, Message: in.Data}
	case program.OpPanic:
		panic(in.Data)
	case program.OpExit:
		os.Exit(in.N)
	case program.OpHang:
		for { //nolint:revive // A loop that nothing but the host can end.
		}
	case program.OpWait:
		waitCancelled()
		return nil, add("cancelled")
	case program.OpCancelled:
		return program.Output{N: count("cancelled")}, nil
	case program.OpHash:
		sum := sha256.Sum256([]byte(in.Data))
		return program.Output{N: len(in.Data), Data: hex.EncodeToString(sum[:])}, nil
	case program.OpProduce:
		return strings.Repeat("x", in.N-2), nil
	case program.OpMeet:
		return program.Output{N: in.N}, meet(in.N)
	case program.OpLog:
		logInfo(in.Data)
		return program.Output{}, nil
	case program.OpEnv:
		return program.Output{Data: os.Getenv(in.Data)}, nil
	case program.OpInvoke:
		output, err := invoke(in.Type, []byte(in.Data))
		return program.Output{Data: string(output)}, err
	case program.OpAllocate:
		return program.Output{N: allocate(in.N)}, nil
	}
	return nil, &failure{Type: "UnknownOp", Message: in.Op}
}

func seen() program.Seen {
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(os.Getenv(name), 10, 64)
		return n
	}
	s := program.Seen{
		RequestID: os.Getenv("COVEY_REQUEST_ID"), App: os.Getenv("COVEY_APP"), Function: os.Getenv("COVEY_FUNCTION"),
		Version: uint64(number("COVEY_VERSION")), Attempt: int(number("COVEY_ATTEMPT")), Node: os.Getenv("COVEY_NODE"),
		Trace: os.Getenv("COVEY_TRACE"), ContentType: os.Getenv("COVEY_CONTENT_TYPE"),
		Attributes: attributes(os.Getenv("COVEY_ATTRIBUTES")),
	}
	if deadline := number("COVEY_DEADLINE_MS"); deadline > 0 {
		s.RemainingMS = time.Until(time.UnixMilli(deadline)).Milliseconds()
	}
	return s
}

func attributes(encoded string) map[string]string {
	var m map[string]string
	_ = json.Unmarshal([]byte(encoded), &m)
	return m
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

// add makes one more file in a folder of the private directory, and count tells how many there are.
func add(name string) error {
	dir := filepath.Join(os.TempDir(), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, os.Getenv("COVEY_REQUEST_ID")), nil, 0o644)
}

func count(name string) int {
	entries, _ := os.ReadDir(filepath.Join(os.TempDir(), name))
	return len(entries)
}

// meet waits until n calls are here.
func meet(n int) error {
	name := fmt.Sprint("meet-", n)
	if err := add(name); err != nil {
		return err
	}
	// A crowd that looks too often keeps its last members from coming.
	pause := time.Duration(n) * 15 * time.Millisecond
	for begun := time.Now(); time.Since(begun) < 50*time.Second; time.Sleep(pause) {
		if count(name) >= n {
			return nil
		}
	}
	return &failure{Type: "Alone", Message: fmt.Sprintf("%d of %d came", count(name), n)}
}
