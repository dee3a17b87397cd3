package clustertest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// leakPatience is how long goroutines may take to end after the last test.
// memberlist has no way to wait for its own: a probe under way ends with its
// timeout, which its health score stretches.
const leakPatience = 15 * time.Second

// RunMain runs a package's tests and then fails if a goroutine is left behind. Call
// it from TestMain.
func RunMain(m *testing.M) {
	code := m.Run()
	for start := time.Now(); code == 0; {
		err := goleak.Find()
		if err == nil {
			break
		}
		if time.Since(start) > leakPatience {
			fmt.Fprintf(os.Stderr, "goroutines are left behind: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}
