package link

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/state"
)

// BenchmarkCall measures one hop over TLS 1.3 on loopback, both ends in this
// process, with an echoing handler.
func BenchmarkCall(b *testing.B) {
	for _, size := range []int{100, 10 << 10, 1 << 20} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("bytes=%d/callers=%d", size, callers), func(b *testing.B) {
				a := benchPair(b)
				body := bytes.Repeat([]byte("x"), size)
				mustCall(b, a, "b")
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.SetParallelism((callers + 1) / 2)
				work := func() {
					call := newCall("")
					call.Body, call.Remaining = body, time.Second
					reply, err := a.Call(context.Background(), "b", call)
					if err != nil {
						b.Error(err)
						return
					}
					if len(reply.Body) != size {
						b.Errorf("got %d bytes", len(reply.Body))
					}
					reply.Release()
				}
				if callers == 1 {
					for b.Loop() {
						work()
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						work()
					}
				})
			})
		}
	}
}

// benchPair returns a link with a TLS link to node b.
func benchPair(b *testing.B) *Link {
	b.Helper()
	cert := selfSigned(b)
	n := newNetwork()
	secure := func(c *Config) {
		plain := c.Dial
		c.Listener = &tlsListener{Listener: c.Listener, cfg: &tls.Config{Certificates: []tls.Certificate{cert}}}
		c.PeerID = func(conn net.Conn) (state.NodeID, error) { return "a", nil }
		c.Dial = func(ctx context.Context, to state.NodeID) (net.Conn, error) {
			raw, err := plain(ctx, to)
			if err != nil {
				return nil, err
			}
			c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
			return c, c.HandshakeContext(ctx)
		}
	}
	n.start(b, "b", echo, secure)
	return n.start(b, "a", echo, secure)
}

// tlsListener reads the plain preamble of the test network before TLS.
type tlsListener struct {
	net.Listener
	cfg *tls.Config
}

func (l *tlsListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if _, err := peerID(c); err != nil {
		return nil, err
	}
	return tls.Server(c, l.cfg), nil
}

func selfSigned(b *testing.B) tls.Certificate {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
