package api

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client/wire"
)

// listAliases serves GET …/aliases.
func (s *Server) listAliases(c *call) error {
	f, err := s.function(c)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, wire.List[wire.Alias]{Items: functionOf(f).Aliases})
}

// getAlias serves GET …/aliases/{alias}; the ETag is its revision.
func (s *Server) getAlias(c *call) error {
	f, err := s.function(c)
	if err != nil {
		return err
	}
	a := f.Alias(state.AliasName(c.r.PathValue("alias")))
	if a == nil {
		return state.ErrNoAlias
	}
	return s.replyAlias(c, aliasOf(a))
}

// putAlias serves PUT …/aliases/{alias}. If-Match makes it fail when somebody
// else changed the alias since it was read.
func (s *Server) putAlias(c *call) error {
	var in wire.AliasChange
	if err := c.decode(&in); err != nil {
		return err
	}
	var expected uint64
	if tag := header(c.r, "If-Match"); tag != "" && tag != "*" {
		n, err := strconv.ParseUint(strings.Trim(tag, `"`), 10, 64)
		if err != nil || n == 0 {
			return badRequest("If-Match is not the ETag of an alias")
		}
		expected = n
	}
	return s.moveAlias(c, c.r.PathValue("alias"), in, expected)
}

// moveAlias proposes an alias and answers with it.
func (s *Server) moveAlias(c *call, name string, in wire.AliasChange, expected uint64) error {
	result, err := s.propose(c, &clusterpb.Command{Op: &clusterpb.Command_PutAlias{PutAlias: &clusterpb.PutAlias{
		App: string(appOf(c.r)), Function: c.r.PathValue("name"), ExpectedRevision: expected,
		Alias: &clusterpb.Alias{
			Name: name, Version: in.Version, Other: in.Other, OtherWeight: in.OtherWeight, Description: in.Description,
		},
	}}})
	if err != nil {
		return err
	}
	return s.replyAlias(c, wire.Alias{
		Name: name, Version: result.GetVersion(), Other: in.Other, OtherWeight: in.OtherWeight,
		Description: in.Description, Revision: result.GetRevision(), Updated: s.cfg.Clock.Now().UTC(),
	})
}

// replyAlias answers with an alias and its ETag, which a later change can be made
// conditional on.
func (s *Server) replyAlias(c *call, a wire.Alias) error {
	c.w.Header().Set("ETag", strconv.Quote(strconv.FormatUint(a.Revision, 10)))
	return c.reply(http.StatusOK, a)
}

// deleteAlias serves DELETE …/aliases/{alias}.
func (s *Server) deleteAlias(c *call) error {
	_, err := s.propose(c, &clusterpb.Command{Op: &clusterpb.Command_DeleteAlias{DeleteAlias: &clusterpb.DeleteAlias{
		App: string(appOf(c.r)), Function: c.r.PathValue("name"), Name: c.r.PathValue("alias"),
	}}})
	if err != nil {
		return err
	}
	return c.done()
}

// rollback serves POST …/rollback: the alias goes to the version that was asked
// for, or to the newest one that is older than what it names now. It holds only
// if nobody moved the alias meanwhile.
func (s *Server) rollback(c *call) error {
	var in wire.RollbackRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	if in.Alias == "" {
		in.Alias = string(state.Live)
	}
	f, err := s.function(c)
	if err != nil {
		return err
	}
	a := f.Alias(state.AliasName(in.Alias))
	if a == nil {
		return state.ErrNoAlias
	}
	target := state.VersionNumber(in.Version)
	if target == 0 {
		if target = older(f, a.Version); target == 0 {
			return refusal(http.StatusConflict, wire.CodeConflict, "there is no version older than "+strconv.FormatUint(uint64(a.Version), 10))
		}
	} else if f.Version(target) == nil {
		return state.ErrNoVersion
	}
	return s.moveAlias(c, in.Alias, wire.AliasChange{Version: uint64(target), Description: a.Description}, a.Revision)
}

// older returns the newest version of f before n, or 0.
func older(f *state.Function, n state.VersionNumber) state.VersionNumber {
	var found state.VersionNumber
	for _, v := range f.Versions { // ascending
		if v.Key.Number < n {
			found = v.Key.Number
		}
	}
	return found
}
