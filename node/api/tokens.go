package api

import (
	"net/http"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/node/access"
	"github.com/covey-dev/covey/node/client/wire"
)

const (
	// defaultTokenTTL is how long a token lives unless it was asked for longer:
	// short enough that a forgotten one dies.
	defaultTokenTTL = 90 * 24 * time.Hour
	// defaultJoinTTL is shorter, because whoever holds the token becomes a node.
	defaultJoinTTL = time.Hour
	// maxJoinTTL bounds it.
	maxJoinTTL = 7 * 24 * time.Hour
)

// listTokens serves GET /v1/tokens.
func (s *Server) listTokens(c *call) error {
	view, err := s.view(c)
	if err != nil {
		return err
	}
	out := wire.List[wire.Token]{Items: []wire.Token{}}
	for _, t := range view.Tokens() {
		out.Items = append(out.Items, tokenOf(t))
	}
	return c.reply(http.StatusOK, out)
}

// createToken serves POST /v1/tokens. The secret is in this answer and nowhere
// else, ever.
func (s *Server) createToken(c *call) error {
	var in wire.TokenRequest
	if err := c.decode(&in); err != nil {
		return err
	}
	now := s.cfg.Clock.Now().UTC().Truncate(time.Millisecond)
	token := &clusterpb.Token{App: in.App, Description: in.Description}
	secret, err := s.newSecret(c, &in, token)
	if err != nil {
		return err
	}
	for _, name := range in.Scopes {
		scope, ok := scopeOf(name)
		if !ok {
			return badRequest("scopes: " + name + " is none of read, invoke, deploy, admin")
		}
		token.Scopes = append(token.Scopes, scope)
	}
	out := wire.NewToken{Secret: secret, Token: wire.Token{
		ID: token.GetId(), Kind: in.Kind, Description: in.Description, Scopes: in.Scopes, App: in.App, Created: now,
	}}
	if in.TTLSeconds >= 0 {
		ttl := time.Duration(in.TTLSeconds) * time.Second
		if ttl == 0 {
			ttl = defaultTokenTTL
		}
		out.Expires = now.Add(ttl)
		token.ExpiresUnixMs = out.Expires.UnixMilli()
	}
	if _, err := s.propose(c, &clusterpb.Command{Op: &clusterpb.Command_PutToken{PutToken: &clusterpb.PutToken{Token: token}}}); err != nil {
		return err
	}
	s.log.Info().Str("token", token.GetId()).Str("kind", in.Kind).Str("by", string(c.who.ID)).Strs("scopes", in.Scopes).Str("app", in.App).
		Msg("token created")
	return c.reply(http.StatusCreated, out)
}

// newSecret makes the secret of a token of either kind, fills in the defaults of
// the request, and into the token its id and what is kept of the secret.
func (s *Server) newSecret(c *call, in *wire.TokenRequest, token *clusterpb.Token) (string, error) {
	switch in.Kind {
	case "", wire.KindAPI:
		if len(in.Scopes) == 0 {
			return "", badRequest("scopes: at least one of read, invoke, deploy, admin is needed")
		}
		secret := access.NewSecret()
		hash := access.HashOf(secret)
		in.Kind = wire.KindAPI
		token.Id, token.Hash, token.Kind = newID(), hash[:], clusterpb.TokenKind_TOKEN_KIND_API
		return secret, nil
	case wire.KindAWSKey:
		if level := s.cfg.Control.View().FeatureLevel(); level < state.AccessKeyLevel {
			return "", refusal(http.StatusServiceUnavailable, wire.CodeUnavailable,
				"access keys need every node to run a release that knows them: see the feature level in the status")
		}
		if len(in.Scopes) == 0 {
			in.Scopes = []string{wire.ScopeInvoke}
		}
		id, secret := access.NewAccessKey()
		sealed, err := s.cfg.AccessKeys.Seal(c.r.Context(), id, secret)
		if err != nil {
			return "", err
		}
		token.Id, token.Sealed, token.Kind = string(id), sealed, clusterpb.TokenKind_TOKEN_KIND_ACCESS_KEY
		return secret, nil
	default:
		return "", badRequest("kind: " + in.Kind + " is neither api nor aws-key")
	}
}

// revokeToken serves DELETE /v1/tokens/{token}.
func (s *Server) revokeToken(c *call) error {
	id := c.r.PathValue("token")
	if _, err := s.propose(c, &clusterpb.Command{Op: &clusterpb.Command_RevokeToken{RevokeToken: &clusterpb.RevokeToken{Id: id}}}); err != nil {
		return err
	}
	s.log.Info().Str("token", id).Str("by", string(c.who.ID)).Msg("token revoked")
	return c.done()
}

// createJoinToken serves POST /v1/join-tokens.
func (s *Server) createJoinToken(c *call) error {
	in := wire.JoinTokenRequest{}
	if err := c.decode(&in); err != nil {
		return err
	}
	if in.TTLSeconds < 0 || in.Uses < 0 {
		return badRequest("ttl_seconds and uses must not be negative")
	}
	ttl := defaultJoinTTL
	if in.TTLSeconds > 0 {
		ttl = min(time.Duration(in.TTLSeconds)*time.Second, maxJoinTTL)
	}
	token, err := s.cfg.Operations.JoinToken(c.r.Context(), ttl, in.Uses)
	if err != nil {
		return err
	}
	s.log.Info().Str("by", string(c.who.ID)).Msg("join token created")
	return c.reply(http.StatusCreated, wire.JoinToken{Token: token})
}
