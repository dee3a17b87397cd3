//go:build wasip1

package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/covey-dev/covey/plugins/sdk/wasip1"
)

func initialising() bool { return os.Getenv(envInit) != "" }

const envInit = "COVEY_WASM_INIT"

func serve() bool { return false }

// fail ends the module with an error.
func fail(err error) {
	var f *failure
	var other *wasip1.Failure
	switch {
	case errors.As(err, &f):
		wasip1.Fail(f.Type, f.Message)
	case errors.As(err, &other):
		wasip1.Fail(other.Type, other.Message)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func waitCancelled() {
	for !wasip1.Cancelled() {
		time.Sleep(time.Millisecond)
	}
}

func logInfo(message string) { wasip1.Log(wasip1.Info, message) }

func invoke(name string, payload []byte) ([]byte, error) { return wasip1.Invoke(name, payload) }
