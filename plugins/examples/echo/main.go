// Command echo is the smallest function: it answers with its payload. Benchmarks use it.
package main

import (
	"context"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

func main() {
	covey.Serve(func(_ context.Context, payload []byte) ([]byte, error) { return payload, nil })
}
