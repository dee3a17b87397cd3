package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// build runs the function's own build command in its folder.
func (s *Source) build(ctx context.Context, output io.Writer) error {
	command := s.Manifest.Build
	if command == "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, output, output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s with %q: %w", s.Path, command, err)
	}
	return nil
}

// programs are the binaries of a Go function: the file itself when it is built
// already, else one build for each platform.
func (t *target) programs(ctx context.Context, opts Options) ([]Artifact, error) {
	platforms := opts.Platforms
	switch {
	case t.kind == zipped:
		return nil, inputf("%s: the runtime go takes a Go package or a program, not a zip", t.path)
	case t.kind == single && filepath.Ext(t.path) != ".go":
		if len(platforms) > 0 {
			return nil, inputf("--platform is for building; %s is built already", t.path)
		}
		a, err := inspect(t.path)
		if err != nil {
			return nil, err
		}
		return []Artifact{a}, nil
	case len(platforms) == 0:
		platforms = []string{"linux/" + runtime.GOARCH}
	}
	var all []Artifact
	for _, platform := range platforms {
		goos, goarch, ok := strings.Cut(platform, "/")
		if !ok || goos == "" || goarch == "" {
			return nil, inputf("--platform %q is not OS/ARCH", platform)
		}
		out := filepath.Join(opts.Dir, goos+"-"+goarch)
		if err := compile(ctx, t.path, out, goos, goarch); err != nil {
			return nil, err
		}
		a, err := inspect(out)
		if err != nil {
			return nil, fmt.Errorf("build %s: is it package main? %w", t.path, err)
		}
		all = append(all, a)
	}
	return all, nil
}

// compile builds a Go main package: static, without paths and symbols, so that
// it starts fast, runs on any machine and is the same bytes for the same source.
func compile(ctx context.Context, path, out, goos, goarch string) error {
	dir, pkg := path, "."
	if filepath.Ext(path) == ".go" {
		dir, pkg = filepath.Dir(path), filepath.Base(path)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("build %s: Go is not installed here; give a built binary instead: %w", path, err)
	}
	if err != nil {
		return fmt.Errorf("build %s: %w\n%s", path, err, strings.TrimSpace(output.String()))
	}
	return nil
}
