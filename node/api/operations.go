package api

import (
	"net/http"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client/wire"
)

// status serves GET /v1/status: the cluster as this node sees it.
func (s *Server) status(c *call) error {
	return c.reply(http.StatusOK, s.cfg.Operations.Status(c.r.Context()))
}

// listNodes serves GET /v1/nodes.
func (s *Server) listNodes(c *call) error {
	out := wire.List[NodeStatus]{Items: s.cfg.Operations.Nodes(c.r.Context())}
	if out.Items == nil {
		out.Items = []NodeStatus{}
	}
	return c.reply(http.StatusOK, out)
}

// node finds the member that a path names: by id, or by a name that only one
// member has.
func (s *Server) node(c *call) (state.NodeID, error) {
	text := c.r.PathValue("node")
	view := s.cfg.Control.View()
	if m := view.Member(state.NodeID(text)); m != nil {
		return m.ID, nil
	}
	var found state.NodeID
	for _, m := range view.Members() {
		if m.Name != text {
			continue
		}
		if found != "" {
			return "", refusal(http.StatusConflict, wire.CodeConflict, "several nodes are named "+text+": give the id")
		}
		found = m.ID
	}
	if found == "" {
		return "", notFound("there is no node " + text)
	}
	return found, nil
}

// drainNode serves POST /v1/nodes/{node}/drain.
func (s *Server) drainNode(c *call) error {
	in := wire.DrainRequest{On: true}
	if err := c.decode(&in); err != nil {
		return err
	}
	id, err := s.node(c)
	if err != nil {
		return err
	}
	if err := s.cfg.Operations.Drain(c.r.Context(), id, in.On); err != nil {
		return err
	}
	s.log.Info().Str("node", string(id)).Bool("on", in.On).Str("by", string(c.who.ID)).Msg("node drain changed")
	return c.done()
}

// removeNode serves DELETE /v1/nodes/{node}, which burns its id.
func (s *Server) removeNode(c *call) error {
	id, err := s.node(c)
	if err != nil {
		return err
	}
	if err := s.cfg.Operations.Remove(c.r.Context(), id); err != nil {
		return err
	}
	s.log.Info().Str("node", string(id)).Str("by", string(c.who.ID)).Msg("node removed")
	return c.done()
}
