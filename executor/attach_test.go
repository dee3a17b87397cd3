//go:build linux

package executor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestSocketOfAnInstanceIsReachedThroughItsRoot(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "cv") // a short path: socket addresses have little room
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := os.Symlink(filepath.Join(dir, "s"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		path string
		ok   bool
	}{
		{"socket", filepath.Join(dir, "s"), true},
		{"symbolic link", filepath.Join(dir, "link"), false},
		{"missing", filepath.Join(dir, "missing"), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var socket insideSocket
			defer socket.close()
			conn, err := net.Dial("unix", socket.open(os.Getpid(), c.path))
			if (err == nil) != c.ok {
				t.Fatalf("dial: %v", err)
			}
			if err == nil {
				_ = conn.Close()
			}
		})
	}
	if got := (&insideSocket{}).open(1<<30, filepath.Join(dir, "s")); got != nowhere {
		t.Errorf("a socket of no process is %q", got)
	}
}

func TestOnlyGoPluginsHandshakeIsHeldBack(t *testing.T) {
	t.Parallel()
	cases := map[string]bool{
		"1|1|unix|/tmp/covey1/s|netrpc|": true,
		"1|1|tcp|127.0.0.1:80|netrpc|":   false,
		"1|1|unix|/tmp/s|grpc|":          false,
		"a|b|c|d|e|f":                    false,
		"":                               false,
	}
	for line, want := range cases {
		if got := newAttachment(&processLauncher{}, nil).handshake([]byte(line)); got != want {
			t.Errorf("%q is a handshake: %v, want %v", line, got, want)
		}
	}
}

// scriptedPinger answers as told, or never.
type scriptedPinger struct {
	answers []error
	hang    chan struct{}
}

func (p *scriptedPinger) Ping() error {
	if len(p.answers) == 0 {
		<-p.hang
		return nil
	}
	err := p.answers[0]
	p.answers = p.answers[1:]
	return err
}

func TestUnhealthyInstanceIsEnded(t *testing.T) {
	cases := []struct {
		name    string
		answers []error
		after   time.Duration
	}{
		{"error", []error{nil, nil, errInjected}, 3 * time.Second},
		{"no answer", []error{nil}, 2*time.Second + 500*time.Millisecond},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			onFakes(t, nil, func(t *testing.T, r *rig) {
				if err := r.call(t.Context(), testSpec(), "r"); err != nil {
					t.Fatal(err)
				}
				in := theInstance(t, r)
				a := newAttachment(&processLauncher{health: health{every: time.Second, limit: 500 * time.Millisecond}}, in)
				p := &scriptedPinger{answers: c.answers, hang: make(chan struct{})}
				began := time.Now()
				a.check(t.Context(), p)
				if took := time.Since(began); took != c.after {
					t.Errorf("ended after %v, want %v", took, c.after)
				}
				synctest.Wait()
				if n := r.l.living(); n != 0 {
					t.Errorf("%d instances live on", n)
				}
				close(p.hang)
			})
		})
	}
}

func theInstance(t *testing.T, r *rig) *instance {
	t.Helper()
	p := (*r.pools.Load())[testSpec().Key]
	p.mu.Lock()
	defer p.mu.Unlock()
	for in := range p.all {
		return in
	}
	t.Fatal("no instance")
	return nil
}

func TestHeldLineEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		h := &heldLine{ctx: ctx, rest: []byte("line\n")}
		var text string
		if _, err := fmt.Fscanln(h, &text); err != nil || text != "line" {
			t.Errorf("read %q, %v", text, err)
		}
		time.AfterFunc(time.Hour, cancel)
		began := time.Now()
		if n, err := h.Read(make([]byte, 1)); n != 0 || err == nil || time.Since(began) != time.Hour {
			t.Errorf("read %d bytes, %v after %v", n, err, time.Since(began))
		}
	})
}

func TestAttachDirectoryIsEmptiedAtStart(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for range 2 {
		dir, err := attachDir(data)
		if err != nil {
			t.Fatal(err)
		}
		left := filepath.Join(dir, "left")
		if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("something is left of an earlier life: %v", err)
		}
		if err := os.WriteFile(left, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
