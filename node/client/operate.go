package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
)

// maxLine bounds one line of a log stream.
const maxLine = 1 << 20

// Status returns the cluster as the node that answers sees it.
func (c *Client) Status(ctx context.Context) (*wire.Status, error) {
	var out wire.Status
	return &out, c.fetch(ctx, http.MethodGet, "/v1/status", nil, &out, true)
}

// Nodes lists the nodes.
func (c *Client) Nodes(ctx context.Context) ([]wire.NodeStatus, error) {
	return list[wire.NodeStatus](ctx, c, "/v1/nodes")
}

// Drain starts or ends the evacuation of a node.
func (c *Client) Drain(ctx context.Context, node string, on bool) error {
	return c.fetch(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(node)+"/drain", wire.DrainRequest{On: on}, nil, true)
}

// RemoveNode burns a node's id; it never comes back under it.
func (c *Client) RemoveNode(ctx context.Context, node string) error {
	return c.fetch(ctx, http.MethodDelete, "/v1/nodes/"+url.PathEscape(node), nil, nil, true)
}

// Tokens lists the tokens, without their secrets.
func (c *Client) Tokens(ctx context.Context) ([]wire.Token, error) {
	return list[wire.Token](ctx, c, "/v1/tokens")
}

// CreateToken makes an API token. It is not sent again after an unknown outcome,
// because the secret of the first one would be lost and stay valid.
func (c *Client) CreateToken(ctx context.Context, in wire.TokenRequest) (*wire.NewToken, error) {
	var out wire.NewToken
	return &out, c.fetch(ctx, http.MethodPost, "/v1/tokens", in, &out, false)
}

// CreateJoinToken makes a token for machines to join with.
func (c *Client) CreateJoinToken(ctx context.Context, in wire.JoinTokenRequest) (*wire.JoinToken, error) {
	var out wire.JoinToken
	return &out, c.fetch(ctx, http.MethodPost, "/v1/join-tokens", in, &out, false)
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.fetch(ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(id), nil, nil, true)
}

// Usage returns metered usage.
func (c *Client) Usage(ctx context.Context, query wire.UsageQuery) (*wire.UsageReport, error) {
	values := url.Values{}
	setString(values, "app", query.App)
	setString(values, "function", query.Function)
	setTime(values, "since", query.Since)
	setTime(values, "until", query.Until)
	var out wire.UsageReport
	return &out, c.fetch(ctx, http.MethodGet, withQuery("/v1/usage", values), nil, &out, true)
}

// Explain returns what became of an invocation.
func (c *Client) Explain(ctx context.Context, requestID string) (*wire.Record, error) {
	var out wire.Record
	return &out, c.fetch(ctx, http.MethodGet, "/v1/explain/"+url.PathEscape(requestID), nil, &out, true)
}

// Logs yields lines of functions' logs, with Follow until ctx ends. The last
// yield has an error if the stream broke. It is not resumed, because a caller
// can do that better, from the time of the last line.
func (c *Client) Logs(ctx context.Context, query wire.LogQuery) iter.Seq2[wire.LogLine, error] {
	return lines[wire.LogLine](ctx, c, logsPath(query), maxLine)
}

// maxTop bounds one report of Top, which has a row for each node and version.
const maxTop = 64 << 20

// Top yields what the cluster did in each interval, until ctx ends or Count were
// given. The last yield has an error if the stream broke.
func (c *Client) Top(ctx context.Context, query wire.TopQuery) iter.Seq2[wire.Top, error] {
	values := url.Values{}
	if query.Interval > 0 {
		values.Set("interval", query.Interval.String())
	}
	if query.Count > 0 {
		values.Set("count", strconv.Itoa(query.Count))
	}
	return lines[wire.Top](ctx, c, withQuery("/v1/top", values), maxTop)
}

// lines yields the lines of a stream of JSON.
func lines[T any](ctx context.Context, c *Client, path string, most int) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		stopped := false
		var none T
		req := &request{method: http.MethodGet, path: path, id: newID(), repeatable: true}
		err := c.do(ctx, req, func(resp *http.Response) error {
			scan := bufio.NewScanner(resp.Body)
			scan.Buffer(nil, most)
			for scan.Scan() {
				if len(scan.Bytes()) == 0 {
					continue // a sign of life
				}
				var line T
				if err := json.Unmarshal(scan.Bytes(), &line); err != nil {
					return &callerError{err: fmt.Errorf("decode line: %w", err)}
				}
				if !yield(line, nil) {
					stopped = true
					return nil
				}
			}
			if err := scan.Err(); err != nil {
				// Sending it again would repeat lines.
				return &callerError{err: fmt.Errorf("read stream: %w", err)}
			}
			return nil
		})
		if err != nil && !stopped && ctx.Err() == nil {
			yield(none, err)
		}
	}
}

// Backup writes a backup of the cluster to w: state and code at one index.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	req := &request{method: http.MethodGet, path: "/v1/backup", id: newID(), repeatable: true}
	return c.do(ctx, req, func(resp *http.Response) error {
		if resp.StatusCode/100 != 2 {
			return readProblem(resp, resp.Request.URL.Host)
		}
		if _, err := io.Copy(w, resp.Body); err != nil {
			return &callerError{err: fmt.Errorf("copy backup: %w", err)}
		}
		return nil
	})
}

// logsPath is the route and the query of a log request.
func logsPath(query wire.LogQuery) string {
	app := query.App
	if app == "" {
		app = "default"
	}
	path := "/v1/apps/" + url.PathEscape(app) + "/logs"
	if query.Function != "" {
		path = functionPath(app, query.Function, "logs")
	}
	values := url.Values{}
	setString(values, "request", query.RequestID)
	setTime(values, "since", query.Since)
	if query.Tail > 0 {
		values.Set("tail", strconv.Itoa(query.Tail))
	}
	if query.Follow {
		values.Set("follow", "true")
	}
	return withQuery(path, values)
}

func withQuery(path string, values url.Values) string {
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}

func setString(values url.Values, key, value string) {
	if value != "" {
		values.Set(key, value)
	}
}

func setTime(values url.Values, key string, t time.Time) {
	if !t.IsZero() {
		values.Set(key, t.UTC().Format(time.RFC3339Nano))
	}
}
