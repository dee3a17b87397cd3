package api

import (
	"net/http"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client/wire"
)

// The bounds of what one may ask to be warmed up.
const (
	maxWarmNodes     = 1000
	maxWarmInstances = 1000
)

// warmVersion serves POST …/versions/{version}/warm: instances are started where the
// alias's versions are warm, so that the alias can move to the version without a cold
// start. It answers at once with how far they are; a caller repeats it, with the nodes
// of the answer, until it says that they are ready.
func (s *Server) warmVersion(c *call) error {
	var in wire.WarmRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	number, err := versionNumber(c)
	if err != nil {
		return err
	}
	f, err := s.function(c)
	if err != nil {
		return err
	}
	v := f.Version(number)
	if v == nil {
		return state.ErrNoVersion
	}
	if in.Alias == "" {
		in.Alias = string(state.Live)
	}
	if in.Instances < 0 || in.Instances > maxWarmInstances || len(in.Nodes) > maxWarmNodes {
		return badRequest("instances is 0 to 1000 per node, on at most 1000 nodes")
	}
	for _, at := range in.Nodes {
		if at.Wanted < 0 || at.Wanted > maxWarmInstances {
			return badRequest("wanted is 0 to 1000 per node")
		}
	}
	var like []state.VersionNumber
	if a := f.Alias(state.AliasName(in.Alias)); a != nil { // one that is yet to be made replaces nothing
		like = append(like, a.Version)
		if a.Other != 0 {
			like = append(like, a.Other)
		}
	}
	return c.reply(http.StatusOK, s.cfg.Operations.Warm(c.r.Context(), v, like, in))
}
