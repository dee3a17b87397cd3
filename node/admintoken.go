package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/covey-dev/covey/node/access"
)

// AdminTokenFile is the file in the data directory that `covey start --init`
// leaves the first admin token in, so that commands on the node itself need none.
const AdminTokenFile = "admin.token"

// adminTokenFor returns the token to found a cluster with. It is written durably
// before it is used, because a cluster whose only token was never written would
// be lost; a file that an interrupted start left behind is used again.
func adminTokenFor(dataDir string) (string, error) {
	if token, err := ReadAdminToken(dataDir); err == nil && token != "" {
		return token, nil
	}
	token := access.NewSecret()
	f, err := os.OpenFile(filepath.Join(dataDir, AdminTokenFile), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("write admin token: %w", err)
	}
	_, err = fmt.Fprintln(f, token)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("write admin token: %w", err)
	}
	return token, nil
}

// ReadAdminToken returns the admin token of a data directory. The error wraps
// fs.ErrNotExist when the node did not found its cluster.
func ReadAdminToken(dataDir string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(dataDir, AdminTokenFile))
	if err != nil {
		return "", fmt.Errorf("read admin token: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}
