//go:build linux && (amd64 || arm64)

package sandbox

import (
	"fmt"
	"slices"
)

// Feature is one mechanism that this machine has or lacks.
type Feature struct {
	Name string
	OK   bool
	// Detail says why not, or which variant.
	Detail string
}

// Description says what New found out; it does not change afterwards.
type Description struct {
	Level    Level
	Features []Feature
	// Warnings say what is missing and what follows from it, for an operator.
	Warnings []string
}

// Level returns the level of every instance on this machine.
func (s *Sandbox) Level() Level { return s.about.Level }

// LimitsMemory tells whether the kernel enforces Spec.Memory. Where it does not,
// watch Process.Memory.
func (s *Sandbox) LimitsMemory() bool { return s.tree.version != 0 }

// Describe returns what this machine offers. The caller may keep it.
func (s *Sandbox) Describe() Description {
	d := s.about
	d.Features = slices.Clone(d.Features)
	d.Warnings = slices.Clone(d.Warnings)
	return d
}

func (s *Sandbox) warn(format string, args ...any) {
	s.about.Warnings = append(s.about.Warnings, fmt.Sprintf(format, args...))
}

// describe sets the description after the mode was chosen, and logs it once.
func (s *Sandbox) describe(failed []error) {
	network := s.berths.network || s.mode.userns
	memory := s.tree.version != 0
	d := &s.about
	d.Level = s.mode.level(network, memory)
	d.Features = append(s.mode.features(),
		Feature{Name: "network namespace", OK: network},
		Feature{Name: "memory limit by cgroup", OK: memory, Detail: s.tree.detail()})
	for _, err := range failed {
		s.warn("not available: %v", err)
	}
	if !s.mode.namespaces {
		s.warn("an instance that escapes its process group ends only when the daemon starts again")
		s.warn("functions share the host's network")
	}
	if s.mode.landlock && !s.mode.uids && landlockABI() < landlockUnixABI {
		s.warn("functions can connect to each other's Unix sockets: this kernel's landlock does not cover them")
	}
	if d.Level == LevelNone {
		s.warn("functions can read whatever the daemon's user can read, its data directory included")
	}
	s.log.Info().Stringer("level", d.Level).Str("mode", s.mode.name).Msg("sandbox detected")
	for _, warning := range d.Warnings {
		s.log.Warn().Str("reason", warning).Msg("sandbox is weaker than it could be")
	}
}

// detail names the version of the cgroups in use.
func (t cgroupTree) detail() string {
	if t.version == 0 {
		return ""
	}
	return fmt.Sprintf("version %d", t.version)
}
