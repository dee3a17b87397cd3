package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/covey-dev/covey/node/cli/source"
	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// upload sends one artifact, with a progress bar on a terminal.
func (a *app) upload(ctx context.Context, c *client.Client, artifact source.Artifact) (wire.Artifact, error) {
	info, err := os.Stat(artifact.Path)
	if err != nil {
		return wire.Artifact{}, fmt.Errorf("read code: %w", err)
	}
	open := func() (io.ReadCloser, error) {
		f, err := os.Open(artifact.Path)
		if err != nil || a.json() || !terminal(a.env.Stderr) {
			return f, err
		}
		bar := progressbar.NewOptions64(info.Size(), progressbar.OptionSetWriter(a.env.Stderr), progressbar.OptionShowBytes(true),
			progressbar.OptionSetDescription("upload"), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
		return &measured{File: f, bar: bar}, nil
	}
	stored, err := c.Upload(ctx, open, info.Size())
	if err != nil {
		return wire.Artifact{}, fmt.Errorf("upload code: %w", err)
	}
	return wire.Artifact{OS: artifact.OS, Arch: artifact.Arch, Digest: stored.Digest, Size: uint64(stored.Size)}, nil
}

// measured is a file whose reading moves a progress bar. It hides the methods
// of the file by which it could be sent past the bar.
type measured struct {
	*os.File
	bar *progressbar.ProgressBar
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.File.Read(p)
	_ = m.bar.Add(n) // it is for the eye alone
	return n, err
}

// WriteTo copies by Read.
func (m *measured) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{m})
}
