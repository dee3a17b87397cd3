package state

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// draft is a view under construction: a copy whose trees are replaced, never
// changed, so that the view it started from stays as it is.
type draft struct{ *View }

// apply returns the view after a command, and its result. A refused command
// moves only the index, the time and the window of remembered outcomes.
func (v *View) apply(index Index, cmd *clusterpb.Command) (*View, *clusterpb.Result) {
	base := *v
	base.index = index
	base.timeMs = max(v.timeMs, cmd.GetTimeUnixMs())
	draft{&base}.forget()
	if res := base.repeated(cmd.GetId()); res != nil {
		return &base, res
	}

	// base has the new index and time; next may become more. If the command is
	// refused next is thrown away with whatever run had begun.
	next := base
	res := &clusterpb.Result{}
	refusal := draft{&next}.admit(cmd)
	if refusal == nil {
		refusal = draft{&next}.run(cmd, res)
	}
	if refusal != nil {
		next = base
		res = &clusterpb.Result{Refusal: refusal}
	}
	res.Index = uint64(index)
	if id := cmd.GetId(); id != "" && len(id) <= maxID {
		d := draft{&next}
		d.remember(&outcome{id: id, timeMs: next.timeMs, result: res})
		d.forget()
	}
	return &next, res
}

// admit holds the rules that are the same for every command.
func (d draft) admit(cmd *clusterpb.Command) *clusterpb.Refusal {
	if len(cmd.GetId()) > maxID {
		return invalid("command id has %d bytes, at most %d are allowed", len(cmd.GetId()), maxID)
	}
	if cmd.GetFoundCluster() != nil {
		return nil
	}
	if d.clusterID == "" {
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_NOT_FOUNDED, "the cluster is not founded")
	}
	if cmd.GetLevel() > d.level {
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_LEVEL,
			"the command needs feature level %d, the cluster is at %d", cmd.GetLevel(), d.level)
	}
	return nil
}

// run is one long switch, because it is the table of all commands.
func (d draft) run(cmd *clusterpb.Command, res *clusterpb.Result) *clusterpb.Refusal {
	switch op := cmd.GetOp().(type) {
	case *clusterpb.Command_FoundCluster:
		return d.foundCluster(op.FoundCluster)
	case *clusterpb.Command_PutMember:
		return d.putMember(op.PutMember.GetMember())
	case *clusterpb.Command_RemoveMember:
		return d.removeMember(NodeID(op.RemoveMember.GetId()))
	case *clusterpb.Command_SetRole:
		return d.setRole(NodeID(op.SetRole.GetId()), op.SetRole.GetRole())
	case *clusterpb.Command_SetDraining:
		return d.setDraining(NodeID(op.SetDraining.GetId()), op.SetDraining.GetDraining())
	case *clusterpb.Command_Deploy:
		return d.deploy(op.Deploy, res)
	case *clusterpb.Command_DeleteFunction:
		return d.deleteFunction(op.DeleteFunction)
	case *clusterpb.Command_DeleteVersion:
		return d.deleteVersion(KeyOf(op.DeleteVersion.GetVersion()))
	case *clusterpb.Command_PutAlias:
		return d.putAlias(op.PutAlias, res)
	case *clusterpb.Command_DeleteAlias:
		return d.deleteAlias(op.DeleteAlias)
	case *clusterpb.Command_PutAssignments:
		return d.putAssignments(op.PutAssignments, res)
	case *clusterpb.Command_PutReservations:
		return d.putReservations(op.PutReservations, res)
	case *clusterpb.Command_PutToken:
		return d.putToken(op.PutToken.GetToken())
	case *clusterpb.Command_RevokeToken:
		return d.revokeToken(TokenID(op.RevokeToken.GetId()))
	case *clusterpb.Command_UseJoinToken:
		return d.useJoinToken(op.UseJoinToken)
	case *clusterpb.Command_PutLimits:
		return d.putLimits(op.PutLimits)
	case *clusterpb.Command_RecordUsage:
		return d.recordUsage(op.RecordUsage, res)
	case *clusterpb.Command_RaiseFeatureLevel:
		return d.raiseFeatureLevel(op.RaiseFeatureLevel.GetFeatureLevel())
	default:
		// decode lets nothing else through; guard turns this into a halt.
		panic(fmt.Sprintf("no handler for %T", op))
	}
}

// foundCluster is the one command that an empty state takes. Its level becomes
// the cluster's: a young cluster need not wait for nodes of older releases.
func (d draft) foundCluster(op *clusterpb.FoundCluster) *clusterpb.Refusal {
	if d.clusterID != "" {
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_EXISTS, "the cluster %s is founded already", d.clusterID)
	}
	if err := checkID("cluster_id", op.GetClusterId()); err != nil {
		return invalid("%v", err)
	}
	if op.GetFeatureLevel() == 0 {
		return invalid("feature_level must be at least 1")
	}
	d.clusterID, d.level = ClusterID(op.GetClusterId()), op.GetFeatureLevel()
	return nil
}

// raiseFeatureLevel is refused while any member knows less, draining, silent or
// not: it would halt when it comes back. The operator upgrades or removes it.
// Raising to the present level is fine, as a proposer may repeat itself.
func (d draft) raiseFeatureLevel(level uint32) *clusterpb.Refusal {
	if level < d.level {
		return invalid("the feature level is %d already and cannot fall to %d", d.level, level)
	}
	for m := range all(d.members, "") {
		if m.FeatureLevel < level {
			return refuse(clusterpb.RefusalCode_REFUSAL_CODE_LEVEL,
				"node %s (%s) knows feature level %d only: upgrade or remove it", m.Name, m.ID, m.FeatureLevel)
		}
	}
	d.level = level
	return nil
}

// putLimits replaces all limits of an app. Functions that exceed new ones stay;
// limits are looked at when something is deployed or invoked.
func (d draft) putLimits(op *clusterpb.PutLimits) *clusterpb.Refusal {
	if err := checkApp(op.GetApp()); err != nil {
		return invalid("%v", err)
	}
	name := AppName(op.GetApp())
	app := App{Name: name, Created: d.Time()}
	if old := d.App(name); old != nil {
		app = *old
	} else if d.apps.Len() >= maxApps {
		return refuse(clusterpb.RefusalCode_REFUSAL_CODE_LIMIT, "the cluster has %d apps already", maxApps)
	}
	app.Limits = op.GetLimits()
	if app.Limits == nil {
		app.Limits = &clusterpb.Limits{}
	}
	d.setApp(&app)
	return nil
}

// setApp stores an app, or drops it if nothing holds it any more.
func (d draft) setApp(a *App) {
	if a.Functions == 0 && proto.Size(a.Limits) == 0 {
		d.apps, _, _ = d.apps.Delete([]byte(a.Name))
		return
	}
	d.apps, _, _ = d.apps.Insert([]byte(a.Name), a)
}

// countFunctions changes the number of functions of an app by n.
func (d draft) countFunctions(name AppName, n int) {
	app := App{Name: name, Created: d.Time(), Limits: &clusterpb.Limits{}}
	if old := d.App(name); old != nil {
		app = *old
	}
	app.Functions += n
	d.setApp(&app)
}
