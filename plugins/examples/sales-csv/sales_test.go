// Package sales holds the test of an example in Python.
package sales

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest"
	"github.com/covey-dev/covey/plugins/runtime/python"
)

const interpreter = "/usr/bin/python3"

// install unpacks the runtime, or skips the test where there is no Python.
func install(t *testing.T) string {
	t.Helper()
	probe := python.Probe(interpreter)
	if out, err := exec.Command(probe[0], probe[1:]...).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Skipf("needs Python 3.9: %v", err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, python.Files()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestUnits runs the example's own tests, as its author would.
func TestUnits(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), interpreter, "-B", "-m", "unittest")
	cmd.Env = []string{"PYTHONPATH=" + filepath.Join(install(t), "lib")}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// sums are the function's lines.
type sums struct {
	Region   string
	Orders   int
	Quantity int
	Revenue  string
	Total    *sums
}

// TestLargeFile runs the function in its runtime with about as large a file as a call may have.
func TestLargeFile(t *testing.T) {
	t.Parallel()
	file, want := generate(6<<20 - 100)
	code, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	function := plugintest.ProcessTarget(plugintest.Process{
		Command: python.Command(interpreter, install(t)), Setup: &plugins.Setup{Code: code},
	}).Start(t, plugintest.Options{})
	call := &plugins.Call{Body: file}
	call.RequestID, call.Attempt, call.ContentType, call.Remaining = "sales", 1, "text/csv", time.Minute
	call.Attributes = plugins.Attributes{{Name: "by", Value: "region"}}
	reply, err := function.Invoke(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Release()
	if reply.Stream == nil || reply.ContentType != "application/x-ndjson" {
		t.Fatalf("got %q of %q, want a stream of JSON lines", reply.Body, reply.ContentType)
	}
	defer reply.Stream.Close()
	lines := json.NewDecoder(reply.Stream)
	seen := 0
	for {
		var got sums
		if err := lines.Decode(&got); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := got.Region
		if got.Total != nil {
			name, got = "", *got.Total
		}
		w := want[name]
		if revenue := fmt.Sprintf("%d.%02d", w.cents/100, w.cents%100); got.Orders != w.orders || got.Quantity != w.quantity || got.Revenue != revenue {
			t.Errorf("%q: got %+v, want %+v", name, got, w)
		}
		seen++
	}
	if seen != len(want) {
		t.Errorf("got %d lines, want %d", seen, len(want))
	}
}

// sum is what the function shall find.
type sum struct{ orders, quantity, cents int }

// generate makes a file of the given size and what is in it, by region; "" is the total.
func generate(size int) ([]byte, map[string]sum) {
	random := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	b.WriteString("date,order,region,product,quantity,unit_price,note\n")
	want := make(map[string]sum)
	for n := 1; b.Len() < size-200; n++ {
		region := [...]string{"north", "east", "south", "west"}[random.IntN(4)]
		quantity, cents := 1+random.IntN(20), random.IntN(100_000)
		fmt.Fprintf(&b, "2026-%02d-%02d,%d,%s,product-%d,%d,%d.%02d,\"said \"\"hm, well\"\"\"\n",
			1+random.IntN(12), 1+random.IntN(28), n, region, random.IntN(500), quantity, cents/100, cents%100)
		for _, name := range []string{region, ""} {
			s := want[name]
			want[name] = sum{s.orders + 1, s.quantity + quantity, s.cents + quantity*cents}
		}
	}
	return b.Bytes(), want
}
