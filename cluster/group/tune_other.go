//go:build !linux

package group

import "net"

// tuneConn sets keep-alive; the rest is known to Linux only.
func tuneConn(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(keepAlive)
	}
}
