package client

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Client talks to one cluster. Make it with [New] and end it with Close.
type Client struct {
	cfg       Config
	http      *http.Client
	endpoints []*endpoint
	next      atomic.Uint32
}

// endpoint is one node's address and when it last failed.
type endpoint struct {
	base   *url.URL
	prefix string
	// failed is when a connection to it failed last, in Unix nanoseconds; 0 when
	// it worked since.
	failed atomic.Int64
}

// avoidFor is how long an address that failed is tried after the others only.
const avoidFor = 3 * time.Second

// New returns a client. It opens no connection until it is used.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure client: %w", err)
	}
	c := &Client{cfg: cfg, http: &http.Client{
		Transport: cfg.transport(),
		// A node never redirects; whoever does would get the token.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for _, a := range cfg.Addresses {
		base, err := parseAddress(a)
		if err != nil {
			return nil, fmt.Errorf("configure client: %w", err)
		}
		c.endpoints = append(c.endpoints, &endpoint{base: base, prefix: strings.TrimSuffix(base.String(), "/")})
	}
	return c, nil
}

// Close ends idle connections. Calls that are open go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Addresses returns the base URLs that the client uses.
func (c *Client) Addresses() []string {
	all := make([]string, len(c.endpoints))
	for i, e := range c.endpoints {
		all[i] = e.prefix
	}
	return all
}

// pick returns the address for a request's attempt: the addresses in turn, one
// that is not known to have failed before one that has, and never the one that
// was just tried while there is another.
func (c *Client) pick(last *endpoint) *endpoint {
	n := uint32(len(c.endpoints))
	start := c.next.Add(1)
	now := time.Now().UnixNano()
	var fallback *endpoint
	for i := range n {
		e := c.endpoints[(start+i)%n]
		if e == last {
			continue
		}
		if failed := e.failed.Load(); failed == 0 || now-failed > int64(avoidFor) {
			return e
		}
		if fallback == nil || e.failed.Load() < fallback.failed.Load() {
			fallback = e
		}
	}
	if fallback == nil {
		return last
	}
	return fallback
}

// markFailed and markWorking remember whether an address can be talked to.
func (e *endpoint) markFailed() { e.failed.Store(time.Now().UnixNano()) }

func (e *endpoint) markWorking() {
	if e.failed.Load() != 0 {
		e.failed.Store(0)
	}
}
