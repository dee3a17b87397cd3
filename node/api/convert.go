package api

import (
	"maps"
	"strconv"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client/wire"
)

// The shapes of the API are not those of the log: the log's must keep their
// meaning for ever, the API's must stay pleasant. This file is the bridge.

// configOf turns a specification into the form of the log. Defaults are not its
// business: state.WithDefaults fills them in, once, before the proposal.
func configOf(spec *wire.FunctionSpec) *clusterpb.VersionConfig {
	cfg := &clusterpb.VersionConfig{
		Runtime: spec.Runtime, Handler: spec.Handler, MemoryBytes: spec.MemoryBytes, TimeoutMs: spec.TimeoutMS,
		StartTimeoutMs: spec.StartTimeoutMS, Concurrency: spec.Concurrency, Queue: spec.Queue, Min: spec.Min, Max: spec.Max,
		IdleTtlMs: spec.IdleTTLMS, Env: spec.Env, Idempotent: spec.Idempotent, MinSandbox: spec.MinSandbox,
		Place: spec.Place, Affinity: spec.Affinity, Labels: spec.Labels, Description: spec.Description, Reserved: spec.Reserved,
	}
	if cfg.GetRuntime() == "" {
		cfg.Runtime = "go"
	}
	for _, p := range spec.Provisioned {
		cfg.Provisioned = append(cfg.Provisioned, provisionOf(p))
	}
	if r := spec.Rate; r != nil {
		cfg.Rate = &clusterpb.Rate{PerSecond: r.PerSecond, Burst: r.Burst}
	}
	for _, a := range spec.Artifacts {
		cfg.Artifacts = append(cfg.Artifacts, &clusterpb.Artifact{Os: a.OS, Arch: a.Arch, Digest: a.Digest, Size: a.Size})
	}
	return cfg
}

// specOf shows a configuration, without the values of its environment.
func specOf(cfg *clusterpb.VersionConfig) wire.FunctionSpec {
	spec := wire.FunctionSpec{
		Runtime: cfg.GetRuntime(), Handler: cfg.GetHandler(), MemoryBytes: cfg.GetMemoryBytes(), TimeoutMS: cfg.GetTimeoutMs(),
		StartTimeoutMS: cfg.GetStartTimeoutMs(), Concurrency: cfg.GetConcurrency(), Min: cfg.GetMin(), Max: cfg.GetMax(),
		IdleTTLMS: cfg.GetIdleTtlMs(), Idempotent: cfg.GetIdempotent(), MinSandbox: cfg.GetMinSandbox(),
		Place: maps.Clone(cfg.GetPlace()), Affinity: cfg.GetAffinity(), Labels: maps.Clone(cfg.GetLabels()),
		Description: cfg.GetDescription(), Artifacts: []wire.Artifact{}, Reserved: cfg.GetReserved(),
	}
	queue := cfg.GetQueue()
	spec.Queue = &queue
	if env := cfg.GetEnv(); len(env) > 0 {
		spec.Env = make(map[string]string, len(env))
		for name := range env {
			spec.Env[name] = wire.Redacted
		}
	}
	for _, p := range cfg.GetProvisioned() {
		spec.Provisioned = append(spec.Provisioned, provisionView(p))
	}
	if r := cfg.GetRate(); r != nil {
		spec.Rate = &wire.Rate{PerSecond: r.GetPerSecond(), Burst: r.GetBurst()}
	}
	for _, a := range cfg.GetArtifacts() {
		spec.Artifacts = append(spec.Artifacts, wire.Artifact{OS: a.GetOs(), Arch: a.GetArch(), Digest: a.GetDigest(), Size: a.GetSize()})
	}
	return spec
}

// provisionOf and provisionView are each other's inverse. What does not read was
// refused by checkProvisions.
func provisionOf(p wire.Provision) *clusterpb.Provision {
	days, _ := wire.DaySet(p.Days)
	out := &clusterpb.Provision{Count: p.Count, Days: days, Zone: p.Zone}
	if p.From != "" {
		out.FromMinute, _ = wire.MinutesOfDay(p.From)
		out.ToMinute, _ = wire.MinutesOfDay(p.To)
	}
	return out
}

func provisionView(p *clusterpb.Provision) wire.Provision {
	out := wire.Provision{Count: p.GetCount(), Days: wire.DayNames(p.GetDays()), Zone: p.GetZone()}
	if p.GetFromMinute() != p.GetToMinute() {
		out.From, out.To = wire.TimeOfDay(p.GetFromMinute()), wire.TimeOfDay(p.GetToMinute())
	}
	return out
}

// checkProvisions reports what is wrong with the windows of a specification. The state
// machine cannot: which time zones there are depends on the machine.
func checkProvisions(spec *wire.FunctionSpec) error {
	for i, p := range spec.Provisioned {
		if err := p.Check(); err != nil {
			return badRequest("provisioned[" + strconv.Itoa(i) + "]: " + err.Error())
		}
	}
	return nil
}

// versionOf shows a version with the aliases that lead to it.
func versionOf(f *state.Function, v *state.Version) wire.Version {
	out := wire.Version{
		App: string(v.Key.App), Function: string(v.Key.Function), Number: uint64(v.Key.Number),
		Created: v.Created, Spec: specOf(v.Config),
	}
	for _, a := range f.Aliases {
		if a.Version == v.Key.Number || a.Other == v.Key.Number {
			out.Aliases = append(out.Aliases, string(a.Name))
		}
	}
	return out
}

// aliasOf shows an alias.
func aliasOf(a *state.Alias) wire.Alias {
	return wire.Alias{
		Name: string(a.Name), Version: uint64(a.Version), Other: uint64(a.Other), OtherWeight: a.OtherWeight,
		Description: a.Description, Revision: a.Revision, Updated: a.Updated,
	}
}

// functionOf shows a function as lists have it: without its configuration, so that
// a list of hundreds stays small.
func functionOf(f *state.Function) wire.Function {
	out := wire.Function{
		App: string(f.App), Name: string(f.Name), Latest: uint64(f.Newest().Key.Number),
		Versions: len(f.Versions), Updated: f.Updated, Aliases: []wire.Alias{},
	}
	for _, a := range f.Aliases {
		if a.Name == state.Live {
			out.Live = uint64(a.Version)
		}
		out.Aliases = append(out.Aliases, aliasOf(a))
	}
	return out
}

// sharesOf shows how a function's reserved concurrency is cut.
func sharesOf(view *state.View, f *state.Function) []wire.Share {
	r := view.Reservation(f.Key())
	if r == nil {
		return nil
	}
	shares := make([]wire.Share, 0, len(r.Places))
	for _, p := range r.Places {
		s := wire.Share{Node: string(p.Node), Share: p.Share, Withheld: p.Withheld}
		if m := view.Member(p.Node); m != nil {
			s.Name = m.Name
		}
		shares = append(shares, s)
	}
	return shares
}

// appView shows an app with its limits.
func appView(a *state.App) wire.App {
	l := a.Limits
	return wire.App{
		Name: string(a.Name), Functions: a.Functions, Created: a.Created,
		Limits: wire.Limits{
			Functions: l.GetFunctions(), MemoryBytes: l.GetMemoryBytes(), TimeoutMS: l.GetTimeoutMs(),
			InvocationsPerSecond: l.GetInvocationsPerSecond(), Burst: l.GetBurst(),
			Concurrency: l.GetConcurrency(), BodyBytes: l.GetBodyBytes(),
		},
	}
}

// tokenOf shows what is known of a token. The hash stays here: it opens nothing,
// but it would let a found token be recognised.
func tokenOf(t *state.Token) wire.Token {
	out := wire.Token{
		ID: string(t.ID), Kind: wire.KindAPI, Description: t.Description, App: string(t.App),
		Created: t.Created, Expires: t.Expires, Uses: t.Uses, Used: len(t.UsedBy),
	}
	switch t.Kind {
	case clusterpb.TokenKind_TOKEN_KIND_JOIN:
		out.Kind = wire.KindJoin
	case clusterpb.TokenKind_TOKEN_KIND_ACCESS_KEY:
		out.Kind = wire.KindAWSKey
	default:
	}
	for _, scope := range t.Scopes {
		out.Scopes = append(out.Scopes, scopeName(scope))
	}
	return out
}

// scopeName and scopeOf are each other's inverse.
func scopeName(scope clusterpb.Scope) string {
	switch scope {
	case clusterpb.Scope_SCOPE_READ:
		return wire.ScopeRead
	case clusterpb.Scope_SCOPE_INVOKE:
		return wire.ScopeInvoke
	case clusterpb.Scope_SCOPE_DEPLOY:
		return wire.ScopeDeploy
	case clusterpb.Scope_SCOPE_ADMIN:
		return wire.ScopeAdmin
	default:
		return "unknown"
	}
}

func scopeOf(name string) (clusterpb.Scope, bool) {
	for _, scope := range []clusterpb.Scope{
		clusterpb.Scope_SCOPE_READ, clusterpb.Scope_SCOPE_INVOKE, clusterpb.Scope_SCOPE_DEPLOY, clusterpb.Scope_SCOPE_ADMIN,
	} {
		if scopeName(scope) == name {
			return scope, true
		}
	}
	return 0, false
}
