//go:build linux && (amd64 || arm64)

package sandbox

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

// BenchmarkStart is one start of a small program, from the call to the program's
// end; the difference between bare and sandboxed is what the sandbox adds to a
// cold start. The end of the instance, which happens off the path of a call, is
// not counted.
func BenchmarkStart(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			cmd := exec.Command("/bin/true")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, null
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			_ = cmd.Wait()
			b.StartTimer()
		}
	})
	for _, m := range modesFor(os.Geteuid()) {
		b.Run(m.name, func(b *testing.B) {
			s := newSandbox(b, m)
			for b.Loop() {
				p, err := s.Start(b.Context(), Spec{Instance: "bench", Path: "/bin/true", Memory: 64 << 20})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				p.Kill()
				eventually(b, 2*time.Second, berthReady(s))
				b.StartTimer()
			}
		})
	}
}

// BenchmarkShow is what becoming a function costs a waiting process: its memory limit,
// its code and its cache. Both directories come at once, and then one by one.
func BenchmarkShow(b *testing.B) {
	s := newSandbox(b)
	if !s.Shows() {
		b.Skip("directories cannot be shown to a running instance here")
	}
	places := []Place{{b.TempDir(), TaskDir}, {b.TempDir(), CacheDir}}
	for _, c := range []struct {
		name string
		show func(p *Process) error
	}{
		{"limit", func(p *Process) error { return p.Limit(64 << 20) }},
		{"together", func(p *Process) error { return p.Show(places...) }},
		{"apart", func(p *Process) error { return errors.Join(p.Show(places[0]), p.Show(places[1])) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				p, err := s.Start(b.Context(), Spec{Instance: "bench", Path: "/bin/sleep", Args: []string{"sleep", "60"}})
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := c.show(p); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				p.Kill()
				eventually(b, 2*time.Second, berthReady(s))
				b.StartTimer()
			}
		})
	}
}

// berthReady is the condition of a node that is not in the middle of a burst.
func berthReady(s *Sandbox) func() error {
	return func() error {
		if len(s.berths.ready) < berthsReady/2 {
			return errors.New("berths are still being made")
		}
		return nil
	}
}
