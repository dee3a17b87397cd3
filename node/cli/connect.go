package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/node"
	"github.com/covey-dev/covey/node/client"
)

// addressFile is where a running node leaves the address of its API, so that
// commands on the same machine find it.
const addressFile = "api.addr"

// connect makes a client of the selected cluster.
func (a *app) connect(cmd *cobra.Command) (*client.Client, error) {
	cfg := client.DefaultConfig()
	cfg.Addresses = a.addr
	local := len(a.addr) == 0
	if local {
		cfg.Addresses = []string{a.localAddress()}
	}
	token, err := a.secret(local || flagGiven(cmd, "data-dir"))
	if err != nil {
		return nil, err
	}
	cfg.Token = token
	if a.ca != "" {
		if cfg.TLS, err = trust(a.ca); err != nil {
			return nil, err
		}
	}
	c, err := client.New(cfg)
	if err != nil {
		return nil, &usageError{err}
	}
	return c, nil
}

// flagGiven reports whether a setting was chosen, in whichever way.
func flagGiven(cmd *cobra.Command, name string) bool {
	f := cmd.Flags().Lookup(name)
	return f != nil && (f.Changed || f.Value.String() != f.DefValue)
}

// localAddress is the API of the node on this machine: where it says that it
// listens, else the usual port.
func (a *app) localAddress() string {
	raw, err := os.ReadFile(filepath.Join(a.dataDir, addressFile))
	if text := strings.TrimSpace(string(raw)); err == nil && text != "" {
		return text
	}
	return fmt.Sprintf("127.0.0.1:%d", node.DefaultAPIPort)
}

// secret finds the token. The admin token of the data directory is used only for
// the node that it belongs to: it must not be sent to any address that somebody
// happened to set.
func (a *app) secret(ownNode bool) (string, error) {
	if a.tokenAt != "" {
		raw, err := os.ReadFile(a.tokenAt)
		if err != nil {
			return "", fmt.Errorf("read token: %w", err)
		}
		return strings.TrimSpace(string(raw)), nil
	}
	if a.token != "" || !ownNode {
		return a.token, nil
	}
	token, err := node.ReadAdminToken(a.dataDir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", nil // the cluster will say that one is needed
	}
	return token, err
}

// trust makes a TLS configuration that trusts one authority.
func trust(path string) (*tls.Config, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read authority: %s holds no certificate", path)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
