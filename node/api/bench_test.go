package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkFront compares a call through the front, with a function that costs
// nothing, with a bare handler that reads and answers the same body.
func BenchmarkFront(b *testing.B) {
	for _, size := range []int{100, 10 << 10} {
		body := strings.Repeat("x", size)
		b.Run(fmt.Sprintf("hello/%d", size), func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				raw, err := io.ReadAll(r.Body)
				if err != nil {
					b.Error(err)
				}
				_, _ = w.Write(raw)
			})}
			go func() { _ = srv.Serve(ln) }()
			defer srv.Close()
			drive(b, ln.Addr().String(), "x", body)
		})
		b.Run(fmt.Sprintf("covey/%d", size), func(b *testing.B) {
			n := newFakeNode(b)
			_, address, _ := listen(b, n)
			drive(b, address, n.invoker, body)
		})
	}
}

// drive sends calls over one connection for each parallel caller.
func drive(b *testing.B, address, token, body string) {
	request := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
		native, token, len(body), body)
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		r := bufio.NewReaderSize(c, 16<<10)
		for pb.Next() {
			if _, err := io.WriteString(c, request); err != nil {
				b.Error(err)
				return
			}
			if err := skipResponse(r, len(body)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// skipResponse reads one answer without allocating.
func skipResponse(r *bufio.Reader, length int) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			_, err := r.Discard(length)
			return err
		}
	}
}

// BenchmarkHandler is the handler alone, without the network and net/http.
func BenchmarkHandler(b *testing.B) {
	n := newFakeNode(b)
	s := newServer(b, n)
	req, err := http.NewRequest("POST", native, nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.invoker)
	w := &nowhere{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		s.ServeHTTP(w, req)
	}
}

// nowhere is a response writer that costs nothing.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) WriteHeader(int)             {}
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }
