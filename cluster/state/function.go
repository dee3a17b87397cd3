package state

import (
	"cmp"
	"slices"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// Function is a name with its versions and aliases. Shared: do not change it.
type Function struct {
	App  AppName
	Name FunctionName
	// Versions is ascending by number and never empty.
	Versions []*Version
	// Aliases is ascending by name and always holds Live.
	Aliases []*Alias
	Created time.Time
	// Updated is the time of the last deploy or change of an alias.
	Updated time.Time
	// LastVersion is the greatest number ever given.
	LastVersion VersionNumber
}

// Version is a numbered, immutable configuration. Shared: do not change it.
type Version struct {
	Key VersionKey
	// Hash is Key.Hash, kept because the invocation path needs it each time.
	Hash uint64
	// Config has its defaults filled in. Read-only.
	Config  *clusterpb.VersionConfig
	Created time.Time
}

// Timeout is the longest run time of an invocation.
func (v *Version) Timeout() time.Duration {
	return time.Duration(v.Config.GetTimeoutMs()) * time.Millisecond
}

// Alias names a version, or a weighted pair. Shared: do not change it.
type Alias struct {
	Name    AliasName
	Version VersionNumber
	// Other is the second version of a pair, 0 if there is none.
	Other VersionNumber
	// OtherWeight is the part of the invocations that go to Other, 0 to 1.
	OtherWeight float64
	// Revision grows by one with every change of this alias.
	Revision    uint64
	Description string
	Updated     time.Time
}

// Key returns the function's key.
func (f *Function) Key() FunctionKey { return FunctionKey{App: f.App, Name: f.Name} }

// Version returns the version with that number, or nil.
func (f *Function) Version(n VersionNumber) *Version {
	i, ok := slices.BinarySearchFunc(f.Versions, n, func(v *Version, n VersionNumber) int {
		return cmp.Compare(v.Key.Number, n)
	})
	if !ok {
		return nil
	}
	return f.Versions[i]
}

// Newest returns the version with the greatest number.
func (f *Function) Newest() *Version { return f.Versions[len(f.Versions)-1] }

// Alias returns the alias of that name, or nil.
func (f *Function) Alias(name AliasName) *Alias {
	i, ok := f.aliasAt(name)
	if !ok {
		return nil
	}
	return f.Aliases[i]
}

// Named reports whether an alias leads to the version.
func (f *Function) Named(n VersionNumber) bool {
	return slices.ContainsFunc(f.Aliases, func(a *Alias) bool { return a.Version == n || a.Other == n })
}

// aliasAt returns where an alias is, or where it would be inserted.
func (f *Function) aliasAt(name AliasName) (int, bool) {
	return slices.BinarySearchFunc(f.Aliases, name, func(a *Alias, name AliasName) int {
		return cmp.Compare(a.Name, name)
	})
}

// clone returns a copy whose slices may be changed; what they point to is
// still shared.
func (f *Function) clone() *Function {
	c := *f
	c.Versions = slices.Clone(f.Versions)
	c.Aliases = slices.Clone(f.Aliases)
	return &c
}

// setAlias belongs on a clone: it changes the slice.
// It keeps the order that aliasAt searches by.
func (f *Function) setAlias(a *Alias) {
	i, ok := f.aliasAt(a.Name)
	if ok {
		f.Aliases[i] = a
		return
	}
	f.Aliases = slices.Insert(f.Aliases, i, a)
}

// functionFromPB trusts the order of versions and aliases; restore checks it.
func functionFromPB(p *clusterpb.Function) *Function {
	f := &Function{
		App: AppName(p.GetApp()), Name: FunctionName(p.GetName()),
		Created: fromMillis(p.GetCreatedUnixMs()), Updated: fromMillis(p.GetUpdatedUnixMs()),
		LastVersion: VersionNumber(p.GetLastVersion()),
	}
	for _, v := range p.GetVersions() {
		f.Versions = append(f.Versions, newVersion(f.Key(), v))
	}
	for _, a := range p.GetAliases() {
		f.Aliases = append(f.Aliases, aliasFromPB(a))
	}
	return f
}

// newVersion computes the hash once, and shares the configuration.
func newVersion(fn FunctionKey, p *clusterpb.Version) *Version {
	key := VersionKey{App: fn.App, Function: fn.Name, Number: VersionNumber(p.GetNumber())}
	return &Version{Key: key, Hash: key.Hash(), Config: p.GetConfig(), Created: fromMillis(p.GetCreatedUnixMs())}
}

func (f *Function) toPB() *clusterpb.Function {
	p := &clusterpb.Function{
		App: string(f.App), Name: string(f.Name), LastVersion: uint64(f.LastVersion),
		CreatedUnixMs: millis(f.Created), UpdatedUnixMs: millis(f.Updated),
	}
	for _, v := range f.Versions {
		p.Versions = append(p.Versions, &clusterpb.Version{
			Number: uint64(v.Key.Number), Config: v.Config, CreatedUnixMs: millis(v.Created),
		})
	}
	for _, a := range f.Aliases {
		p.Aliases = append(p.Aliases, a.toPB())
	}
	return p
}

func aliasFromPB(p *clusterpb.Alias) *Alias {
	return &Alias{
		Name: AliasName(p.GetName()), Version: VersionNumber(p.GetVersion()),
		Other: VersionNumber(p.GetOther()), OtherWeight: p.GetOtherWeight(),
		Revision: p.GetRevision(), Description: p.GetDescription(), Updated: fromMillis(p.GetUpdatedUnixMs()),
	}
}

func (a *Alias) toPB() *clusterpb.Alias {
	return &clusterpb.Alias{
		Name: string(a.Name), Version: uint64(a.Version), Other: uint64(a.Other), OtherWeight: a.OtherWeight,
		Revision: a.Revision, Description: a.Description, UpdatedUnixMs: millis(a.Updated),
	}
}

// State time has millisecond steps and no zone, because the zone belongs to
// the environment.
func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
