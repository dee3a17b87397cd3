package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/frame"
	"github.com/covey-dev/covey/plugins/plugintest"
)

// envBeServer makes the test binary a web server.
const envBeServer = "COMMAND_TEST_SERVER"

// serveTest is that server.
func serveTest() {
	begin := time.Now()
	var died atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		if time.Since(begin) < 100*time.Millisecond {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/die", func(http.ResponseWriter, *http.Request) { died.Store(true); os.Exit(7) })
	mux.HandleFunc("/hang-up", func(http.ResponseWriter, *http.Request) {
		fmt.Fprintln(os.Stderr, "hanging up")
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "part %d\n", i)
			_ = http.NewResponseController(w).Flush()
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", fmt.Sprintf("%s %s %s %s %s", r.Method, r.RequestURI, r.Host, r.Header.Get("X-Two"), r.Header.Get("X-Covey-App")))
		w.Header().Set("Content-Type", "text/x-test")
		w.Header().Add("X-Many", "1")
		w.Header().Add("X-Many", "2")
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusSeeOther)
		_, _ = w.Write(body)
	})
	go func() {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		<-asked
		fmt.Println("saying good-bye")
		os.Exit(5)
	}()
	fmt.Println("listening")
	fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), mux))
}

func webServer(t *testing.T, env ...frame.Attribute) plugintest.Function {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, frame.Attribute{Name: envMode, Value: modeHTTP}, frame.Attribute{Name: envBeServer, Value: "1"})
	return start(t, plugins.Setup{Code: t.TempDir(), Handler: path, Env: env})
}

func web(method, path string) []frame.Attribute {
	return []frame.Attribute{{Name: attributeMethod, Value: method}, {Name: attributePath, Value: path}}
}

func TestRequestsAreForwarded(t *testing.T) {
	t.Parallel()
	f := webServer(t)
	attributes := append(web("PUT", "/a%2Fb/c d"),
		frame.Attribute{Name: attributeQuery, Value: "x=1&y=%20"}, frame.Attribute{Name: attributeHost, Value: "example.org"},
		frame.Attribute{Name: attributeHeaderPrefix + "x-two", Value: "2"},
		frame.Attribute{Name: attributeHeaderPrefix + "x-covey-app", Value: "forged"},
		frame.Attribute{Name: attributeHeaderPrefix + "connection", Value: "close"},
	)
	reply, err := call(t.Context(), f, "body", attributes...)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Release()
	if string(reply.Body) != "body" || reply.Status != http.StatusSeeOther || reply.ContentType != "text/x-test" {
		t.Errorf("got %q, status %d, type %q", reply.Body, reply.Status, reply.ContentType)
	}
	if got, want := reply.Attributes.Get("X-Seen"), "PUT /a%252Fb/c%20d?x=1&y=%20 example.org 2"; got != want {
		t.Errorf("the server saw %q, want %q", got, want)
	}
	var many []string
	for _, a := range reply.Attributes {
		if a.Name == "X-Many" {
			many = append(many, a.Value)
		}
	}
	if !slices.Equal(many, []string{"1", "2"}) {
		t.Errorf("a header with two values came as %q", many)
	}
	if reply.Stats.PeakMemory == 0 {
		t.Errorf("no usage: %+v", reply.Stats)
	}
}

func TestAnswersWithoutLengthAreStreamed(t *testing.T) {
	t.Parallel()
	reply, err := call(t.Context(), webServer(t), "", web("GET", "/stream")...)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Release()
	if reply.Stream == nil || reply.Status != http.StatusAccepted {
		t.Fatalf("got status %d, and the stream %v", reply.Status, reply.Stream)
	}
	defer reply.Stream.Close()
	got, err := io.ReadAll(reply.Stream)
	if err != nil || string(got) != "part 0\npart 1\npart 2\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestHealthIsAwaited(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	f := webServer(t, frame.Attribute{Name: envHealth, Value: "/health"})
	if _, err := invoke(t.Context(), f, ""); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 100*time.Millisecond {
		t.Errorf("the first answer came after %v, before the server was healthy", took)
	}
	for _, c := range []frame.Attribute{{Name: envHealth, Value: "/die"}, {Name: envStart, Value: "soon"}} {
		_, err := invoke(t.Context(), webServer(t, c), "")
		var failed *plugins.InitError
		if !errors.As(err, &failed) {
			t.Errorf("%+v: got %v, want an *InitError", c, err)
		}
	}
}

func TestServersThatDoNotListen(t *testing.T) {
	t.Parallel()
	mode := frame.Attribute{Name: envMode, Value: modeHTTP}
	for _, c := range []struct {
		name, script, typ, message string
	}{
		{"silent", "echo thinking; exec sleep 300", "StartTimeout", "thinking"},
		{"dead", "echo no nest >&2; exit 3", "StartFailed", "exit status 3: no nest"},
		{"typed", `echo '{"errorType":"NoNest","errorMessage":"gone"}' >&2; exit 3`, "NoNest", "gone"},
	} {
		_, err := invoke(t.Context(), shell(t, c.script, mode, frame.Attribute{Name: envStart, Value: "300"}), "")
		var failed *plugins.InitError
		if !errors.As(err, &failed) || failed.Type != c.typ || !strings.Contains(failed.Message, c.message) {
			t.Errorf("%s: got %v, want an *InitError of type %s with %q", c.name, err, c.typ, c.message)
		}
	}
}

func TestDeathOfTheServerIsTheInstances(t *testing.T) {
	t.Parallel()
	f := webServer(t)
	_, err := call(t.Context(), f, "", web("GET", "/die")...)
	var exit *plugins.ExitError
	if !errors.As(err, &exit) || errors.Is(err, plugins.ErrNotStarted) {
		t.Errorf("got %v, want an *ExitError", err)
	}
	if got, err := invoke(t.Context(), f, "again"); err != nil || got != "again" {
		t.Errorf("the next instance answers %q, %v", got, err)
	}
}

func TestServersAreAskedToEnd(t *testing.T) {
	t.Parallel()
	var output bytes.Buffer
	conn, cmd := open(t, &plugins.Setup{Code: t.TempDir(), Handler: os.Args[0], Env: []frame.Attribute{
		{Name: envMode, Value: modeHTTP}, {Name: envBeServer, Value: "1"},
	}}, &output)
	if err := conn.Drain(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(output.String(), "saying good-bye") {
		t.Errorf("the instance ended with %v and wrote:\n%s", err, output.String())
	}
}

func TestServersThatHangUp(t *testing.T) {
	t.Parallel()
	f := webServer(t)
	_, err := call(t.Context(), f, "", web("GET", "/hang-up")...)
	var failed *plugins.FunctionError
	if !errors.As(err, &failed) || failed.Type != "NoAnswer" || !failed.Unhandled || !strings.Contains(failed.Stack, "hanging up") {
		t.Errorf("got %v, want an unhandled *FunctionError of type NoAnswer with what the server wrote", err)
	}
	eventually(t, func() error {
		lines, err := f.Logs("")
		if err == nil && !slices.ContainsFunc(lines, func(l plugins.LogLine) bool { return l.Message == "listening" }) {
			return fmt.Errorf("the lines are %+v", lines)
		}
		return err
	})
}

func TestLargeBodiesPassServers(t *testing.T) {
	t.Parallel()
	event := bytes.Repeat([]byte("0123456789abcdef"), 5<<16)
	got, err := invoke(t.Context(), webServer(t), string(event))
	if err != nil || got != string(event) {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, len(event))
	}
}
