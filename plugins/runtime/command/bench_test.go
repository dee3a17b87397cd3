package command

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
)

// open starts the runtime and waits for its first answer.
func open(b testing.TB, s *plugins.Setup, output io.Writer) (*plugins.Conn, *exec.Cmd) {
	b.Helper()
	local, remote, err := plugins.Pair()
	if err != nil {
		b.Fatal(err)
	}
	defer remote.Close()
	cmd := exec.Command(os.Args[0])
	handshake := plugins.Handshake()
	cmd.Env = []string{
		envBeRuntime + "=1", "TMPDIR=" + b.TempDir(), "PATH=" + os.Getenv("PATH"), handshake.MagicCookieKey + "=" + handshake.MagicCookieValue,
	}
	cmd.ExtraFiles, cmd.Stderr = []*os.File{remote}, output
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	conn := plugins.NewConn(local, plugins.ConnConfig{})
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = conn.Close()
		_ = cmd.Wait()
	})
	s.Concurrency, s.Timeout = 1, time.Minute
	if err := conn.Setup(s); err != nil {
		b.Fatal(err)
	}
	ask(b, conn, nil)
	return conn, cmd
}

func ask(b testing.TB, conn *plugins.Conn, body []byte) {
	reply, err := conn.Invoke(b.Context(), &plugins.Call{Body: body})
	if err != nil {
		b.Fatal(err)
	}
	if reply.Stream != nil {
		_ = reply.Stream.Close()
	}
	reply.Release()
}

// BenchmarkProcess is a call that is a process (cat), BenchmarkBareProcess the same process without the runtime.
func BenchmarkProcess(b *testing.B) {
	conn, _ := open(b, &plugins.Setup{Code: b.TempDir(), Handler: "/bin/cat"}, nil)
	event := bytes.Repeat([]byte("x"), 100)
	for b.Loop() {
		ask(b, conn, event)
	}
}

func BenchmarkBareProcess(b *testing.B) {
	event := bytes.Repeat([]byte("x"), 100)
	for b.Loop() {
		cmd := exec.Command("/bin/cat")
		cmd.Stdin = bytes.NewReader(event)
		if out, err := cmd.Output(); err != nil || len(out) != len(event) {
			b.Fatal(out, err)
		}
	}
}

// BenchmarkServer is a call that is a request, BenchmarkBareServer the same request without the runtime.
func BenchmarkServer(b *testing.B) {
	conn, _ := open(b, benchServer(b, ""), nil)
	event := bytes.Repeat([]byte("x"), 100)
	for b.Loop() {
		ask(b, conn, event)
	}
}

func BenchmarkBareServer(b *testing.B) {
	port, err := freePort()
	if err != nil {
		b.Fatal(err)
	}
	open(b, benchServer(b, port), nil)
	event := bytes.Repeat([]byte("x"), 100)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for b.Loop() {
		response, err := client.Post("http://127.0.0.1:"+port, "text/plain", bytes.NewReader(event))
		if err != nil {
			b.Fatal(err)
		}
		_ = response.Body.Close()
	}
}

func benchServer(b *testing.B, port string) *plugins.Setup {
	b.Helper()
	path, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	s := &plugins.Setup{Code: b.TempDir(), Handler: path, Env: frame.Attributes{
		{Name: envMode, Value: modeHTTP}, {Name: envBeServer, Value: "1"},
	}}
	if port != "" {
		s.Env = append(s.Env, frame.Attribute{Name: envPort, Value: port})
	}
	return s
}
