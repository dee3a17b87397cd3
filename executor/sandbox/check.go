//go:build linux && (amd64 || arm64)

package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// check reports everything that is wrong with a spec.
func (s *Sandbox) check(spec *Spec) error {
	var errs []error
	if spec.Instance == "" || strings.Trim(spec.Instance, instanceLetters) != "" {
		errs = append(errs, fmt.Errorf("instance name %q must be letters, digits, '-' and '_'", spec.Instance))
	}
	if (spec.Code == nil) == (spec.Path == "") {
		errs = append(errs, errors.New("exactly one of Code and Path must be set"))
	}
	if spec.Path != "" && !filepath.IsAbs(spec.Path) {
		errs = append(errs, fmt.Errorf("path %q is not absolute", spec.Path))
	}
	for _, path := range append(slices.Clone(spec.ReadPaths), spec.WritePaths...) {
		if path != filepath.Clean(path) || !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("path %q is not a clean absolute path", path))
		}
		// A path inside the data directory shows only itself, and is the caller's
		// choice; one above would show everything.
		if rel, err := filepath.Rel(path, s.cfg.DataDir); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			errs = append(errs, fmt.Errorf("path %q contains the data directory", path))
		}
	}
	for _, text := range append(append([]string{spec.Path}, spec.Args...), spec.Env...) {
		if strings.IndexByte(text, 0) >= 0 {
			errs = append(errs, errors.New("zero byte in the path, the arguments or the environment"))
			break
		}
	}
	if spec.Memory < 0 || spec.Pids < 0 || spec.NoFile < 0 || spec.TmpSize < 0 {
		errs = append(errs, errors.New("negative limit"))
	}
	return errors.Join(errs...)
}

const instanceLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// Defaults of Spec.
const (
	defaultPids   = 256
	defaultNoFile = 1024
	defaultTmp    = 512 << 20
)

func setDefaults(spec *Spec) {
	orDefault(&spec.Pids, defaultPids)
	orDefault(&spec.NoFile, defaultNoFile)
	orDefault(&spec.TmpSize, defaultTmp)
}

func orDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
