package cli

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// binary is code for one kind of machine.
type binary struct {
	path     string
	os, arch string
}

// binaries returns what to upload for PATH: the file itself when it is built
// already, else one build for each platform. cleanup removes the builds.
func (a *app) binaries(ctx context.Context, path string, platforms []string) (all []binary, cleanup func(), err error) {
	nothing := func() {}
	info, err := os.Stat(path)
	if err != nil {
		return nil, nothing, usagef("read %s: %w", path, err)
	}
	if !info.IsDir() && filepath.Ext(path) != ".go" {
		if len(platforms) > 0 {
			return nil, nothing, usagef("--platform is for building; %s is built already", path)
		}
		b, err := inspect(path)
		if err != nil {
			return nil, nothing, err
		}
		return []binary{b}, nothing, nil
	}
	if len(platforms) == 0 {
		platforms = []string{"linux/" + runtime.GOARCH}
	}
	dir, err := os.MkdirTemp("", "covey-build-")
	if err != nil {
		return nil, nothing, fmt.Errorf("build %s: %w", path, err)
	}
	cleanup = func() { _ = os.RemoveAll(dir) }
	for _, platform := range platforms {
		goos, goarch, ok := strings.Cut(platform, "/")
		if !ok || goos == "" || goarch == "" {
			cleanup()
			return nil, nothing, usagef("--platform %q is not OS/ARCH", platform)
		}
		out := filepath.Join(dir, goos+"-"+goarch)
		if err := a.build(ctx, path, out, goos, goarch); err != nil {
			cleanup()
			return nil, nothing, err
		}
		b, err := inspect(out)
		if err != nil {
			cleanup()
			return nil, nothing, fmt.Errorf("build %s: is it package main? %w", path, err)
		}
		all = append(all, b)
	}
	return all, cleanup, nil
}

// build compiles a Go main package: static, without paths and symbols, so that
// it starts fast, runs on any machine and is the same bytes for the same source.
func (a *app) build(ctx context.Context, path, out, goos, goarch string) error {
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

// machines are the architectures in Go's words.
func machine(m elf.Machine) (string, bool) {
	switch m {
	case elf.EM_X86_64:
		return "amd64", true
	case elf.EM_AARCH64:
		return "arm64", true
	case elf.EM_386:
		return "386", true
	case elf.EM_ARM:
		return "arm", true
	case elf.EM_RISCV:
		return "riscv64", true
	case elf.EM_PPC64:
		return "ppc64le", true
	case elf.EM_S390:
		return "s390x", true
	default:
		return "", false
	}
}

// inspect finds out what kind of machine a binary is for.
func inspect(path string) (binary, error) {
	f, err := elf.Open(path)
	if err != nil {
		return binary{}, usagef("%s is neither a Go package nor a Linux binary: %w", path, err)
	}
	defer f.Close()
	arch, ok := machine(f.Machine)
	if !ok {
		return binary{}, usagef("%s is built for %v, which no node runs on", path, f.Machine)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return binary{}, usagef("%s is not a program", path)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return binary{}, usagef("%s needs a dynamic loader, which functions do not have: build it with CGO_ENABLED=0", path)
		}
	}
	return binary{path: path, os: "linux", arch: arch}, nil
}
