package state

import (
	"slices"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// putAlias makes or moves an alias. With an expected revision it is a
// compare-and-set; an alias that should have a revision and does not exist was
// deleted by someone else, so it is not made again.
func (d draft) putAlias(op *clusterpb.PutAlias, res *clusterpb.Result) *clusterpb.Refusal {
	key := FunctionKey{App: AppName(op.GetApp()), Name: FunctionName(op.GetFunction())}
	a := aliasFromPB(op.GetAlias())
	old := d.Function(key.App, key.Name)
	if old == nil {
		return noFunction(key)
	}
	if refusal := checkAlias(old, a); refusal != nil {
		return refusal
	}
	current := old.Alias(a.Name)
	switch {
	case current == nil && op.GetExpectedRevision() != 0:
		return noAlias(key, a.Name)
	case current == nil && len(old.Aliases) >= maxAliases:
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_LIMIT, "%s has %d aliases already", key, maxAliases)
	case current != nil && op.GetCreateOnly():
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_EXISTS, "%s has an alias %q already", key, a.Name)
	}
	if refusal := checkRevision(current, op.GetExpectedRevision()); refusal != nil {
		return refusal
	}
	f := old.clone()
	res.Revision = d.moveAlias(f, a)
	res.Version = uint64(a.Version)
	f.Updated = d.Time()
	d.setFunction(f)
	d.fitReservation(f)
	return nil
}

// checkAlias checks an alias against its function, and fills in the newest
// version where none is given.
func checkAlias(f *Function, a *Alias) *clusterpb.Refusal {
	if err := CheckAliasName(a.Name); err != nil {
		return invalid("%v", err)
	}
	if a.Version == 0 {
		a.Version = f.Newest().Key.Number
	}
	for _, n := range []VersionNumber{a.Version, a.Other} {
		if n != 0 && f.Version(n) == nil {
			return noVersion(VersionKey{App: f.App, Function: f.Name, Number: n})
		}
	}
	// Written so that NaN is refused.
	weighted := a.OtherWeight >= 0 && a.OtherWeight <= 1
	switch {
	case a.Other == 0 && a.OtherWeight != 0:
		return invalid("other_weight needs a second version")
	case a.Other == a.Version:
		return invalid("a weighted pair needs two different versions")
	case !weighted:
		return invalid("other_weight is %v, allowed is 0 to 1", a.OtherWeight)
	case len(a.Description) > maxText:
		return invalid("description has %d bytes, at most %d are allowed", len(a.Description), maxText)
	}
	return nil
}

// checkRevision compares an alias with what its changer knew; 0 is no check.
func checkRevision(a *Alias, expected uint64) *clusterpb.Refusal {
	if a == nil || expected == 0 || expected == a.Revision {
		return nil
	}
	return refuse(clusterpb.RefusalCode_REFUSAL_CODE_CONFLICT,
		"alias %q is at revision %d, not %d: read it again", a.Name, a.Revision, expected)
}

// moveAlias puts an alias into a function that may be changed and returns its
// revision. A version that loses its last name may be dropped by a later deploy.
func (d draft) moveAlias(f *Function, a *Alias) uint64 {
	a.Revision, a.Updated = 1, d.Time()
	if old := f.Alias(a.Name); old != nil {
		a.Revision = old.Revision + 1
	}
	f.setAlias(a)
	return a.Revision
}

// deleteAlias removes any alias but Live. The versions that it named stay until
// a deploy prunes them.
func (d draft) deleteAlias(op *clusterpb.DeleteAlias) *clusterpb.Refusal {
	key := FunctionKey{App: AppName(op.GetApp()), Name: FunctionName(op.GetFunction())}
	name := AliasName(op.GetName())
	old := d.Function(key.App, key.Name)
	if old == nil {
		return noFunction(key)
	}
	a := old.Alias(name)
	switch {
	case name == Live:
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_IN_USE, "every function keeps its alias %q", Live)
	case a == nil:
		return noAlias(key, name)
	}
	if refusal := checkRevision(a, op.GetExpectedRevision()); refusal != nil {
		return refusal
	}
	f := old.clone()
	f.Aliases = slices.DeleteFunc(f.Aliases, func(a *Alias) bool { return a.Name == name })
	f.Updated = d.Time()
	d.setFunction(f)
	return nil
}

// noAlias is the refusal for an unknown alias of a known function.
func noAlias(key FunctionKey, name AliasName) *clusterpb.Refusal {
	return refuse(clusterpb.RefusalCode_REFUSAL_CODE_NOT_FOUND, "%s has no alias %q", key, clip(string(name)))
}
