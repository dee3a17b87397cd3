package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Config says which cluster a [Client] talks to, and how hard it tries.
type Config struct {
	// Addresses are the API addresses of some nodes: "host:port" or a URL. One
	// is enough; with several the client survives the loss of a node.
	Addresses []string
	// Token is sent as the bearer token.
	Token string
	// TLS is used for https addresses; nil means the system's roots.
	TLS *tls.Config
	// MaxAttempts is how often one request is sent at most, the first included.
	// Default 10; 1 never sends again.
	MaxAttempts int
	// BackoffMin and BackoffMax bound the wait between attempts once every
	// address was tried; it doubles, with jitter. Defaults 50 ms and 2 s. Too
	// low hammers a cluster that recovers, too high delays the first success.
	BackoffMin, BackoffMax time.Duration
	// DialTimeout bounds connecting to one address. Default 2 s: beyond it a
	// machine that is off costs every call that long.
	DialTimeout time.Duration
	// MaxConns bounds the connections to one address; 0 means no bound.
	MaxConns int
}

// DefaultConfig returns a Config with every default, without addresses.
func DefaultConfig() Config {
	return Config{
		MaxAttempts: 10,
		BackoffMin:  50 * time.Millisecond,
		BackoffMax:  2 * time.Second,
		DialTimeout: 2 * time.Second,
	}
}

// Validate reports everything that is wrong, by field name.
func (c *Config) Validate() error {
	var errs []error
	if len(c.Addresses) == 0 {
		errs = append(errs, errors.New("Addresses: at least one is needed"))
	}
	for _, a := range c.Addresses {
		if _, err := parseAddress(a); err != nil {
			errs = append(errs, fmt.Errorf("Addresses: %w", err))
		}
	}
	if c.MaxAttempts < 1 {
		errs = append(errs, errors.New("MaxAttempts: must be positive"))
	}
	if c.BackoffMin <= 0 || c.BackoffMax < c.BackoffMin {
		errs = append(errs, errors.New("BackoffMin, BackoffMax: must be positive and in order"))
	}
	if c.DialTimeout <= 0 {
		errs = append(errs, errors.New("DialTimeout: must be positive"))
	}
	return errors.Join(errs...)
}

// parseAddress turns "host:port" or a URL into a base URL without a path.
func parseAddress(address string) (*url.URL, error) {
	text := address
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse address: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("address %q is neither host:port nor a http(s) URL without a path", address)
	}
	u.Path = ""
	return u, nil
}

// transport keeps enough idle connections for many callers, and gives them up
// sooner than a node does, so that the node is never the one to close.
func (c *Config) transport() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: c.DialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     c.TLS,
		TLSHandshakeTimeout: c.DialTimeout,
		// 1,024 callers may each keep one connection to each node.
		MaxIdleConnsPerHost: 1024,
		MaxConnsPerHost:     c.MaxConns,
		IdleConnTimeout:     45 * time.Second,
		DisableCompression:  true,
		// One request per connection at a time: then "was the last byte written"
		// has an answer, on which resending rests. HTTP/2 hides it.
		ForceAttemptHTTP2: false,
		TLSNextProto:      map[string]func(string, *tls.Conn) http.RoundTripper{},
		Proxy:             http.ProxyFromEnvironment,
	}
}
