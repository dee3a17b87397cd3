package state

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// Bounds of what one command may carry and of what the cluster keeps.
const (
	// KeepVersions is how many versions of a function stay without an alias.
	KeepVersions = 20

	// A DNS label; keys on the stack are sized by it.
	maxName  = 63
	maxAlias = 128
	maxID    = 64
	maxText  = 1024
	// Eight times Lambda's, and far below what exec takes.
	maxEnvBytes  = 32 << 10
	maxLabels    = 64
	maxArtifacts = 16
	maxAliases   = 64
	// What the cluster keeps: a few hundred megabytes at worst.
	maxApps      = 10_000
	maxFunctions = 50_000
	maxMembers   = 20_000
	maxTokens    = 10_000
	// Lambda's longest.
	maxTimeout = 900 * time.Second
	maxMemory  = 1 << 40
	// No runtime starts in less.
	minMemory      = 16 << 20
	maxInstances   = 100_000
	maxConcurrency = 10_000
	maxQueue       = 1_000_000
	maxIdleTTL     = 24 * time.Hour
	maxStart       = 300 * time.Second
)

// Defaults that WithDefaults fills in.
const (
	DefaultMemory       = 256 << 20
	DefaultTimeout      = 30 * time.Second
	DefaultConcurrency  = 1
	DefaultQueue        = 128
	DefaultIdleTTL      = 600 * time.Second
	DefaultStartTimeout = 10 * time.Second
)

// WithDefaults returns a copy with every field set that may be left out. The
// proposer of a Deploy calls it; the state machine refuses what it would set.
func WithDefaults(cfg *clusterpb.VersionConfig) *clusterpb.VersionConfig {
	c := proto.CloneOf(cfg)
	if c == nil {
		c = new(clusterpb.VersionConfig)
	}
	c.MemoryBytes = orDefault(c.MemoryBytes, DefaultMemory)
	c.TimeoutMs = orDefault(c.TimeoutMs, uint64(DefaultTimeout.Milliseconds()))
	c.Concurrency = orDefault(c.Concurrency, DefaultConcurrency)
	c.IdleTtlMs = orDefault(c.IdleTtlMs, uint64(DefaultIdleTTL.Milliseconds()))
	c.StartTimeoutMs = orDefault(c.StartTimeoutMs, uint64(DefaultStartTimeout.Milliseconds()))
	if c.Queue == nil {
		c.Queue = proto.Uint32(DefaultQueue)
	}
	return c
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// validate reports every problem of a configuration at once, by field name, in a
// cluster of the given feature level. Deploy refuses exactly what it refuses.
func validate(cfg *clusterpb.VersionConfig, level uint32) error {
	p := new(problems)
	p.check(isWord(cfg.GetRuntime(), maxName), "runtime %q is not a runtime's name", cfg.GetRuntime())
	p.text("handler", cfg.GetHandler())
	p.text("description", cfg.GetDescription())
	between(p, "memory_bytes", cfg.GetMemoryBytes(), minMemory, maxMemory)
	between(p, "timeout_ms", cfg.GetTimeoutMs(), 1, uint64(maxTimeout.Milliseconds()))
	between(p, "concurrency", cfg.GetConcurrency(), 1, maxConcurrency)
	p.check(cfg.Queue != nil, "queue is missing")
	between(p, "queue", cfg.GetQueue(), 0, maxQueue)
	between(p, "max", cfg.GetMax(), 0, maxInstances)
	between(p, "min", cfg.GetMin(), 0, maxInstances)
	p.check(cfg.GetMax() == 0 || cfg.GetMin() <= cfg.GetMax(),
		"min is %d, more than max, which is %d", cfg.GetMin(), cfg.GetMax())
	between(p, "idle_ttl_ms", cfg.GetIdleTtlMs(), 1, uint64(maxIdleTTL.Milliseconds()))
	between(p, "start_timeout_ms", cfg.GetStartTimeoutMs(), 1, uint64(maxStart.Milliseconds()))
	p.guarantees(cfg, level)
	p.placement(cfg, level)
	p.env(cfg.GetEnv(), level)
	p.labels(cfg.GetLabels())
	p.artifacts(cfg.GetArtifacts())
	return p.err()
}

// problems collects what is wrong with a command.
type problems struct{ found []error }

func (p *problems) err() error { return errors.Join(p.found...) }

// check notes a problem unless ok.
func (p *problems) check(ok bool, format string, args ...any) {
	if !ok {
		p.found = append(p.found, fmt.Errorf(format, args...))
	}
}

// text bounds free text, which every replica keeps in memory.
func (p *problems) text(field, s string) {
	p.check(len(s) <= maxText, "%s has %d bytes, at most %d are allowed", field, len(s), maxText)
}

// between says what is allowed, not just that something is not.
func between[T uint32 | uint64](p *problems, field string, n, least, most T) {
	p.check(n >= least && n <= most, "%s is %d, allowed is %d to %d", field, n, least, most)
}

// env never puts a value into a message: values may be secrets. The order of
// messages must not depend on the map's.
func (p *problems) env(env map[string]string, level uint32) {
	size, bad, reserved := 0, "", ""
	for k, v := range env {
		size += len(k) + len(v)
		switch {
		case !isEnvName(k) || strings.ContainsRune(v, 0):
			bad = max(bad, k)
		case strings.HasPrefix(k, "COVEY_") && (level < RuntimeSettingsLevel || !isRuntimeSetting(k)):
			reserved = max(reserved, k)
		}
	}
	_, empty := env[""]
	p.check(bad == "" && !empty, "env: %q is not a variable that can be set", bad)
	p.check(reserved == "", "env: %q: names that begin with COVEY_ are reserved", reserved)
	p.check(size <= maxEnvBytes, "env has %d bytes, at most %d are allowed", size, maxEnvBytes)
}

// isRuntimeSetting tells the variables that are for a runtime: COVEY_, the runtime's
// name, and what they set.
func isRuntimeSetting(name string) bool {
	for _, runtime := range []string{"EXEC", "WASM", "LAMBDA", "PYTHON", "NODEJS"} {
		if strings.HasPrefix(name, "COVEY_"+runtime+"_") {
			return true
		}
	}
	return false
}

// labels are the user's: any text, but not any amount.
func (p *problems) labels(labels map[string]string) {
	p.check(len(labels) <= maxLabels, "labels: %d, at most %d are allowed", len(labels), maxLabels)
	size := 0
	for k, v := range labels {
		size += len(k) + len(v)
	}
	p.check(size <= maxEnvBytes, "labels have %d bytes, at most %d are allowed", size, maxEnvBytes)
}

// artifacts: two for one machine would leave the choice to chance.
func (p *problems) artifacts(list []*clusterpb.Artifact) {
	p.check(len(list) > 0 && len(list) <= maxArtifacts, "artifacts: %d, allowed is 1 to %d", len(list), maxArtifacts)
	seen := make(map[[2]string]bool, len(list))
	for i, a := range list {
		machine := [2]string{a.GetOs(), a.GetArch()}
		p.check(!seen[machine], "artifacts[%d]: there is one for %s/%s already", i, a.GetOs(), a.GetArch())
		seen[machine] = true
		p.check(isDigest(a.GetDigest()), "artifacts[%d]: digest %q is not a sha256 in hexadecimal", i, a.GetDigest())
		p.check((a.GetOs() == "" || isWord(a.GetOs(), maxName)) && (a.GetArch() == "" || isWord(a.GetArch(), maxName)),
			"artifacts[%d]: %q/%q is not a machine", i, a.GetOs(), a.GetArch())
	}
}

// invalid is the refusal of a command that its sender must change.
func invalid(format string, args ...any) *clusterpb.Refusal {
	return refuse(clusterpb.RefusalCode_REFUSAL_CODE_INVALID, format, args...)
}
