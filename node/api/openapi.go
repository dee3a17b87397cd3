package api

import (
	_ "embed"
	"net/http"
)

// spec is the description of the API that users get. A test holds it against
// the routes, both ways.
//
//go:embed openapi.yaml
var spec []byte

// openAPI serves GET /v1/openapi.yaml.
func (s *Server) openAPI(c *call) error {
	c.w.Header().Set("Content-Type", "application/yaml")
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(spec)
	return nil
}
