package state

import (
	"slices"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// noFunction is the refusal for an unknown function.
func noFunction(k FunctionKey) *clusterpb.Refusal {
	return refuse(clusterpb.RefusalCode_REFUSAL_CODE_NOT_FOUND, "no function %q", clip(k.String()))
}

// noVersion is the refusal for a version that does not exist, or no longer.
func noVersion(k VersionKey) *clusterpb.Refusal {
	return refuse(clusterpb.RefusalCode_REFUSAL_CODE_NOT_FOUND, "no version %q", clip(k.String()))
}

// deploy makes the next version. All checks come before the first change, so that
// a refusal needs no undoing; the code itself was stored before the command was
// proposed, and is only named here.
func (d draft) deploy(op *clusterpb.Deploy, res *clusterpb.Result) *clusterpb.Refusal {
	if err := checkFunctionKey(op.GetApp(), op.GetName()); err != nil {
		return invalid("%v", err)
	}
	if err := validate(op.GetConfig(), d.level); err != nil {
		return invalid("%v", err)
	}
	key := FunctionKey{App: AppName(op.GetApp()), Name: FunctionName(op.GetName())}
	f, fresh := d.functionToDeploy(key)
	if refusal := d.checkDeploy(op, f, fresh); refusal != nil {
		return refusal
	}

	f.LastVersion++
	f.Updated = d.Time()
	v := newVersion(key, &clusterpb.Version{
		Number: uint64(f.LastVersion), Config: op.GetConfig(), CreatedUnixMs: d.timeMs,
	})
	f.Versions = append(f.Versions, v)
	res.Version = uint64(f.LastVersion)
	if fresh || !op.GetKeepLive() {
		res.Revision = d.moveAlias(f, &Alias{Name: Live, Version: f.LastVersion})
	}
	if fresh {
		// The function carries the last number itself from here on.
		d.retired, _, _ = d.retired.Delete(functionKey(key))
		d.countFunctions(key.App, 1)
	}
	d.pruneVersions(f)
	d.setFunction(f)
	d.assignFirst(v)
	d.fitReservation(f)
	return nil
}

// functionToDeploy returns a function that may be changed, and whether it is
// new. A name that was used before goes on counting.
func (d draft) functionToDeploy(key FunctionKey) (f *Function, fresh bool) {
	if old := d.Function(key.App, key.Name); old != nil {
		return old.clone(), false
	}
	f = &Function{App: key.App, Name: key.Name, Created: d.Time()}
	if r, ok := d.retired.Get(functionKey(key)); ok {
		f.LastVersion = r.last
	}
	return f, true
}

// checkDeploy holds what depends on the state: the expected version, limits,
// and that some member is able to run the code.
func (d draft) checkDeploy(op *clusterpb.Deploy, f *Function, fresh bool) *clusterpb.Refusal {
	cfg := op.GetConfig()
	if want := op.GetExpectedVersion(); want != 0 && want != uint64(f.LastVersion) {
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_CONFLICT,
			"%s is at version %d, not %d: someone else deployed", f.Key(), f.LastVersion, want)
	}
	limits := d.limits(f.App)
	count := 0
	if app := d.App(f.App); app != nil {
		count = app.Functions
	}
	limit := clusterpb.RefusalCode_REFUSAL_CODE_LIMIT
	// Limits of functions bind only new ones: whoever is above a limit that was
	// lowered can still repair what runs.
	switch {
	case fresh && limits.GetFunctions() > 0 && count >= int(limits.GetFunctions()):
		return refuse(limit, "app %s has %d functions, as many as its limit allows", f.App, count)
	case fresh && d.functions.Len() >= maxFunctions:
		return refuse(limit, "the cluster has %d functions already", maxFunctions)
	case fresh && d.App(f.App) == nil && d.apps.Len() >= maxApps:
		return refuse(limit, "the cluster has %d apps already", maxApps)
	case limits.GetMemoryBytes() > 0 && cfg.GetMemoryBytes() > limits.GetMemoryBytes():
		return refuse(limit, "memory_bytes is %d, app %s allows %d", cfg.GetMemoryBytes(), f.App, limits.GetMemoryBytes())
	case limits.GetTimeoutMs() > 0 && cfg.GetTimeoutMs() > limits.GetTimeoutMs():
		return refuse(limit, "timeout_ms is %d, app %s allows %d", cfg.GetTimeoutMs(), f.App, limits.GetTimeoutMs())
	case d.members.Len() > 0 && !d.runnable(cfg):
		labels := ""
		if len(cfg.GetPlace()) > 0 {
			labels = ", the labels of place"
		}
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_NO_NODE,
			"no node can run it: needed are runtime %q, sandbox level %d%s, and code for a node's machine",
			cfg.GetRuntime(), cfg.GetMinSandbox(), labels)
	}
	return nil
}

// runnable reports whether any member is able to run it. Draining ones count:
// draining passes.
func (d draft) runnable(cfg *clusterpb.VersionConfig) bool {
	for m := range all(d.members, "") {
		if m.Eligible(cfg) {
			return true
		}
	}
	return false
}

// assignFirst cuts the shares of a new version that has a max, so that it can
// run from its first moment on. The state does not know who is alive; the
// leader's planner does, and corrects.
func (d draft) assignFirst(v *Version) {
	if v.Config.GetMax() == 0 {
		return
	}
	if places := Cut(v, d.eligible(v.Config), nil, 0); len(places) > 0 {
		d.setAssignment(&Assignment{Version: v.Key, Places: places})
	}
}

// pruneVersions drops the oldest versions that no alias names, down to
// KeepVersions in all. The new version is never among them: it is the newest.
// Nodes finish what runs of a dropped version with the copy that they hold.
func (d draft) pruneVersions(f *Function) {
	excess := len(f.Versions) - KeepVersions
	f.Versions = slices.DeleteFunc(f.Versions, func(v *Version) bool {
		if excess <= 0 || f.Named(v.Key.Number) {
			return false
		}
		excess--
		d.dropAssignment(v.Key)
		return true
	})
}

// deleteFunction leaves the last number behind. If numbers began anew, a node
// that is behind could serve old code under the name of a new version.
func (d draft) deleteFunction(op *clusterpb.DeleteFunction) *clusterpb.Refusal {
	key := FunctionKey{App: AppName(op.GetApp()), Name: FunctionName(op.GetName())}
	f := d.Function(key.App, key.Name)
	if f == nil {
		return noFunction(key)
	}
	for _, v := range f.Versions {
		d.dropAssignment(v.Key)
	}
	d.dropReservation(key)
	d.functions, _, _ = d.functions.Delete(functionKey(key))
	d.retired, _, _ = d.retired.Insert(functionKey(key), &retired{key: key, last: f.LastVersion})
	d.countFunctions(key.App, -1)
	return nil
}

// deleteVersion keeps every alias valid: what one names cannot go. As Live names
// some version always, a function never loses its last one.
func (d draft) deleteVersion(key VersionKey) *clusterpb.Refusal {
	old := d.Function(key.App, key.Function)
	if old == nil {
		return noFunction(key.FunctionKey())
	}
	if old.Version(key.Number) == nil {
		return noVersion(key)
	}
	if old.Named(key.Number) {
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_IN_USE, "an alias names %s: move it first", key)
	}
	f := old.clone()
	f.Versions = slices.DeleteFunc(f.Versions, func(v *Version) bool { return v.Key.Number == key.Number })
	f.Updated = d.Time()
	d.dropAssignment(key)
	d.setFunction(f)
	return nil
}

// setFunction stores a function that no view has seen yet.
func (d draft) setFunction(f *Function) {
	d.functions, _, _ = d.functions.Insert(functionKey(f.Key()), f)
}

func functionKey(k FunctionKey) []byte { return appendFunctionKey(nil, k.App, k.Name) }
