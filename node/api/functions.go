package api

import (
	"cmp"
	"net/http"
	"strconv"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client/wire"
)

// listApps serves GET /v1/apps: those that the caller may see.
func (s *Server) listApps(c *call) error {
	view, err := s.view(c)
	if err != nil {
		return err
	}
	out := wire.List[wire.App]{Items: []wire.App{}}
	for _, a := range view.Apps() {
		if c.who.Sees(a.Name) {
			out.Items = append(out.Items, appView(a))
		}
	}
	return c.reply(http.StatusOK, out)
}

// putLimits serves PUT /v1/apps/{app}/limits.
func (s *Server) putLimits(c *call) error {
	var in wire.Limits
	if err := c.decode(&in); err != nil {
		return err
	}
	_, err := s.propose(c, &clusterpb.Command{Op: &clusterpb.Command_PutLimits{PutLimits: &clusterpb.PutLimits{
		App: c.r.PathValue("app"),
		Limits: &clusterpb.Limits{
			Functions: in.Functions, MemoryBytes: in.MemoryBytes, TimeoutMs: in.TimeoutMS,
			InvocationsPerSecond: in.InvocationsPerSecond, Burst: in.Burst,
			Concurrency: in.Concurrency, BodyBytes: in.BodyBytes,
		},
	}}})
	if err != nil {
		return err
	}
	return c.done()
}

// listFunctions serves GET /v1/functions and GET /v1/apps/{app}/functions.
func (s *Server) listFunctions(c *call) error {
	view, err := s.view(c)
	if err != nil {
		return err
	}
	out := wire.List[wire.Function]{Items: []wire.Function{}}
	for _, f := range view.Functions(state.AppName(c.r.PathValue("app"))) {
		if c.who.Sees(f.App) {
			out.Items = append(out.Items, functionOf(f))
		}
	}
	return c.reply(http.StatusOK, out)
}

// deploy serves PUT on a function: a new version, to which "live" moves.
func (s *Server) deploy(c *call) error {
	var in wire.DeployRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	app, name := appOf(c.r), c.r.PathValue("name")
	if err := checkProvisions(&in.FunctionSpec); err != nil {
		return err
	}
	cfg := state.WithDefaults(configOf(&in.FunctionSpec))
	if err := cmp.Or(s.checkGuarantees(cfg), s.known(cfg)); err != nil {
		return err
	}
	result, err := s.propose(c, &clusterpb.Command{Op: &clusterpb.Command_Deploy{Deploy: &clusterpb.Deploy{
		App: string(app), Name: name, Config: cfg, KeepLive: in.KeepLive,
	}}})
	if err != nil {
		return s.noNode(err, cfg)
	}
	// Answered from what was proposed: the state here may be a moment behind.
	return c.reply(http.StatusCreated, wire.Deployed{
		Version: wire.Version{
			App: string(app), Function: name, Number: result.GetVersion(), Created: s.cfg.Clock.Now().UTC(), Spec: specOf(cfg),
		},
		Warnings: s.runnableWarnings(cfg),
	})
}

// checkGuarantees refuses what nodes of older releases do not know before it is
// proposed: they would stop at it.
func (s *Server) checkGuarantees(cfg *clusterpb.VersionConfig) error {
	if level := s.cfg.Control.View().FeatureLevel(); state.NeedsGuarantees(cfg) && level < state.GuaranteesLevel {
		return refusal(http.StatusServiceUnavailable, wire.CodeUnavailable, "reserved and provisioned concurrency and rates need every node to run a release that knows them: "+
			"see the feature level in the status")
	}
	return nil
}

// function finds the function of a path.
func (s *Server) function(c *call) (*state.Function, error) {
	view, err := s.view(c)
	if err != nil {
		return nil, err
	}
	f := view.Function(appOf(c.r), state.FunctionName(c.r.PathValue("name")))
	if f == nil {
		return nil, notFound("there is no function " + string(appOf(c.r)) + "/" + c.r.PathValue("name"))
	}
	return f, nil
}

// describe serves GET on a function: what it is and where it runs now.
func (s *Server) describe(c *call) error {
	f, err := s.function(c)
	if err != nil {
		return err
	}
	out := functionOf(f)
	out.Shares = sharesOf(s.cfg.Control.View(), f)
	if live := f.Alias(state.Live); live != nil {
		if v := f.Version(live.Version); v != nil {
			current := versionOf(f, v)
			out.Current = &current
		}
	}
	for _, node := range s.cfg.Operations.Nodes(c.r.Context()) {
		for _, load := range node.Functions {
			if load.App == out.App && load.Function == out.Name {
				out.Placements = append(out.Placements, wire.Placement{Node: node.ID, Name: node.Name, Sandbox: node.Sandbox, Load: load})
			}
		}
	}
	return c.reply(http.StatusOK, out)
}

// deleteFunction serves DELETE on a function.
func (s *Server) deleteFunction(c *call) error {
	_, err := s.propose(c, &clusterpb.Command{Op: &clusterpb.Command_DeleteFunction{DeleteFunction: &clusterpb.DeleteFunction{
		App: string(appOf(c.r)), Name: c.r.PathValue("name"),
	}}})
	if err != nil {
		return err
	}
	return c.done()
}

// listVersions serves GET …/versions, oldest first.
func (s *Server) listVersions(c *call) error {
	f, err := s.function(c)
	if err != nil {
		return err
	}
	out := wire.List[wire.Version]{Items: []wire.Version{}}
	for _, v := range f.Versions {
		out.Items = append(out.Items, versionOf(f, v))
	}
	return c.reply(http.StatusOK, out)
}

// versionNumber reads the version in a path.
func versionNumber(c *call) (state.VersionNumber, error) {
	n, err := strconv.ParseUint(c.r.PathValue("version"), 10, 64)
	if err != nil || n == 0 {
		return 0, badRequest("a version is a number from 1 on")
	}
	return state.VersionNumber(n), nil
}

// getVersion serves GET …/versions/{version}.
func (s *Server) getVersion(c *call) error {
	n, err := versionNumber(c)
	if err != nil {
		return err
	}
	f, err := s.function(c)
	if err != nil {
		return err
	}
	v := f.Version(n)
	if v == nil {
		return state.ErrNoVersion
	}
	return c.reply(http.StatusOK, versionOf(f, v))
}

// deleteVersion serves DELETE …/versions/{version}.
func (s *Server) deleteVersion(c *call) error {
	n, err := versionNumber(c)
	if err != nil {
		return err
	}
	_, err = s.propose(c, &clusterpb.Command{Op: &clusterpb.Command_DeleteVersion{DeleteVersion: &clusterpb.DeleteVersion{
		Version: &clusterpb.VersionRef{App: string(appOf(c.r)), Function: c.r.PathValue("name"), Version: uint64(n)},
	}}})
	if err != nil {
		return err
	}
	return c.done()
}
