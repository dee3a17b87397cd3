package forks

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

func TestWrittenProgramsCanBeExecuted(t *testing.T) {
	t.Parallel()
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Skip("no program to copy: ", err)
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	for range 4 {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = exec.Command("/bin/true").Run() // only the fork counts
				}
			}
		})
	}
	defer others.Wait()
	defer close(stop)
	for i := range 200 {
		path := filepath.Join(t.TempDir(), fmt.Sprint("copy", i))
		if err := os.WriteFile(path, program, 0o755); err != nil {
			t.Fatal(err)
		}
		Settle(path)
		out, err := exec.Command(path).CombinedOutput()
		if err != nil {
			t.Fatalf("copy %d: %v: %s", i, err, out)
		}
	}
}
