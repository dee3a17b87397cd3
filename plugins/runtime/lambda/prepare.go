package lambda

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
	"golang.org/x/sys/unix"
)

// What is in the folder of a prepared cache, beside a bootstrap that could not be run where it was.
const (
	clientFolder      = "client" // our client for Python, compiled
	pythonCacheFolder = "python" // the package's modules, compiled
	envPythonCache    = "_COVEY_LAMBDA_PYTHON_CACHE"
)

// prepare computes what depends on the package alone.
func prepare(s *covey.Setup, p *program, clients string) error {
	switch p.family {
	case provided:
		if unix.Access(p.path, unix.X_OK) == nil {
			return nil
		}
		return copyProgram(p.path, filepath.Join(s.Cache, bootstrapName))
	case python:
		// A module that does not compile is reported when it is imported.
		cmd := exec.Command(p.path, "-c", pythonStart, clients, "--prepare", s.Code, s.Cache)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("compile modules: %w", err)
		}
	}
	return nil
}

// copyProgram makes an executable copy.
func copyProgram(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy program: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("copy program: %w", err)
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return fmt.Errorf("copy program: %w", err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("copy program: %w", err)
	}
	return nil
}
