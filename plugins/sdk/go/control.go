package covey

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

const (
	// handshakeFormat is go-plugin's first line: core protocol, our protocol, network, address, wire.
	handshakeFormat = "1|1|unix|%s|netrpc|\n"
	// socketDirKey is where go-plugin wants its sockets, if it says so.
	socketDirKey = "PLUGIN_UNIX_SOCKET_DIR"
	// quitDelay is how long a Quit waits for its own reply to leave.
	quitDelay = 100 * time.Millisecond
)

// control serves go-plugin's net/rpc protocol, so that this process is an ordinary plugin to an unchanged
// go-plugin client: Ping, Quit and one plugin that invokes the function. It needs neither go-plugin nor
// net/rpc, which would link net/http and html/template; the wire is yamux streams of gob values (gob.go).
type control struct {
	runtime *runtime
	dir     string

	mu       sync.Mutex
	listener net.Listener
	closed   bool
}

func newControl(r *runtime) *control { return &control{runtime: r} }

// serve listens, prints the handshake and serves clients until close. Without a place for a socket the
// function still works; only go-plugin cannot attach.
func (c *control) serve() {
	listener, err := c.listen()
	if err != nil {
		fmt.Fprintln(os.Stderr, "covey: listen for go-plugin:", err)
		return
	}
	if _, err := fmt.Printf(handshakeFormat, listener.Addr()); err != nil {
		_ = listener.Close()
		return
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go c.serveConn(conn)
	}
}

func (c *control) listen() (net.Listener, error) {
	dir, err := os.MkdirTemp(os.Getenv(socketDirKey), "covey")
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listener, c.dir = listener, dir
	if c.closed {
		c.closeLocked()
		return nil, net.ErrClosed
	}
	return listener, nil
}

// close removes the socket.
func (c *control) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.closeLocked()
}

func (c *control) closeLocked() {
	if c.listener != nil {
		_ = c.listener.Close()
		_ = os.RemoveAll(c.dir)
	}
}

// serveConn serves one go-plugin client. It opens a control stream, two for standard output and error (which
// this process writes to its own), and one for each plugin that it dispenses.
func (c *control) serveConn(conn net.Conn) {
	config := yamux.DefaultConfig()
	config.LogOutput = io.Discard
	// The client keeps the connection alive; it does not have to happen twice.
	config.EnableKeepAlive = false
	mux, err := yamux.Server(conn, config)
	if err != nil {
		_ = conn.Close()
		return
	}
	defer mux.Close()
	streams := make([]net.Conn, 3)
	for i := range streams {
		if streams[i], err = mux.Accept(); err != nil {
			return
		}
	}
	go c.servePlugins(mux)
	serveRPC(streams[0], c.controlMethod)
}

// servePlugins accepts the streams of dispensed plugins. The client sends the id that Dispense gave and
// waits for it to come back.
func (c *control) servePlugins(mux *yamux.Session) {
	for {
		stream, err := mux.Accept()
		if err != nil {
			return
		}
		var id [4]byte
		if _, err := io.ReadFull(stream, id[:]); err != nil {
			return
		}
		if _, err := stream.Write(id[:]); err != nil {
			return
		}
		go serveRPC(stream, c.pluginMethod)
	}
}

// controlMethod runs a method of the control stream. The returned value is encoded as the reply.
func (c *control) controlMethod(method string, decode func(any) error) (any, error) {
	switch method {
	case "Control.Ping":
		return struct{}{}, decode(new(bool))
	case "Control.Quit":
		time.AfterFunc(quitDelay, c.runtime.quitWhenIdle)
		return struct{}{}, decode(new(bool))
	case "Dispenser.Dispense":
		var name string
		if err := decode(&name); err != nil {
			return nil, err
		}
		if name != pluginName {
			return nil, errors.New("unknown plugin type: " + name)
		}
		return uint32(1), nil
	}
	return nil, unknownMethod(method, decode)
}

// pluginName is what a go-plugin client dispenses.
const pluginName = "function"

// pluginMethod runs a method of the dispensed plugin: Invoke takes and gives the payload.
func (c *control) pluginMethod(method string, decode func(any) error) (any, error) {
	if method != "Plugin.Invoke" {
		return nil, unknownMethod(method, decode)
	}
	var payload []byte
	if err := decode(&payload); err != nil {
		return nil, err
	}
	output, err := c.runtime.handlePlain(payload)
	if err != nil {
		return nil, err
	}
	return output, nil
}

func unknownMethod(method string, decode func(any) error) error {
	if err := decode(nil); err != nil {
		return err
	}
	return errors.New("rpc: can't find method " + method)
}

// serveRPC answers the net/rpc calls on one stream, one after the other, until it ends.
func serveRPC(stream io.ReadWriteCloser, method func(string, func(any) error) (any, error)) {
	defer stream.Close()
	in, out := &gobReader{r: bufio.NewReader(stream)}, &gobWriter{w: stream}
	for {
		name, seq, err := in.request()
		if err != nil {
			return
		}
		reply, err := method(name, in.argument)
		failure := ""
		if err != nil {
			failure = err.Error()
			reply = struct{}{} // A value must follow an error too; the client skips it.
		}
		out.response(name, seq, failure)
		if out.reply(reply) != nil || out.flush() != nil {
			return
		}
	}
}
