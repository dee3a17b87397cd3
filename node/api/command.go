package api

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/client/wire"
)

// propose commits a command for a request. Its id is made of the request id and
// the command, so that a client that sends its request again gets the first
// one's result, while one that uses an id for two different things gets both.
func (s *Server) propose(c *call, cmd *clusterpb.Command) (*clusterpb.Result, error) {
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	sum := sha256.Sum256(content)
	cmd.Id = c.id + "/" + hex.EncodeToString(sum[:8])
	result, err := s.cfg.Control.Propose(c.r.Context(), cmd)
	if err != nil {
		return nil, err
	}
	if err := state.Refused(result); err != nil {
		return nil, err
	}
	c.w.Header().Set(wire.HeaderIndex, strconv.FormatUint(result.GetIndex(), 10))
	return result, nil
}
