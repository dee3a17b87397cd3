package api

import (
	"bytes"
	"net/http"

	"github.com/covey-dev/covey/node/access"
)

// readyz serves GET /readyz: 200 when this node should get requests, 503 when
// not, and while it drains. With ?verbose it lists the checks; what is wrong in
// each is told only to those who may read the cluster.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	checks := append([]Check{{Name: "serving", OK: !s.draining.Load(), Detail: "draining"}}, s.cfg.Operations.Ready(r.Context())...)
	if checks[0].OK {
		checks[0].Detail = ""
	}
	ready := true
	for _, check := range checks {
		ready = ready && check.OK
	}
	var text bytes.Buffer
	if _, verbose := r.URL.Query()["verbose"]; verbose {
		writeChecks(&text, checks, s.mayReadCluster(r))
	}
	status := http.StatusOK
	if ready {
		text.WriteString("ready\n")
	} else {
		status = http.StatusServiceUnavailable
		text.WriteString("not ready\n")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes())
}

// writeChecks lists checks in the form that Kubernetes made known.
func writeChecks(text *bytes.Buffer, checks []Check, details bool) {
	for _, check := range checks {
		mark := "[+]"
		if !check.OK {
			mark = "[-]"
		}
		text.WriteString(mark + check.Name)
		if details && check.Detail != "" {
			text.WriteString(": " + check.Detail)
		}
		text.WriteByte('\n')
	}
}

// mayReadCluster reports whether a request to an open route carries a token that
// may read the cluster. A bad token is as good as none.
func (s *Server) mayReadCluster(r *http.Request) bool {
	who, err := access.Authenticate(s.cfg.Control.View(), header(r, "Authorization"), s.cfg.Clock.Now())
	return err == nil && who.Allows(access.Read, access.Cluster) == nil
}
