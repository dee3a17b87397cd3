package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/covey-dev/covey/node/client/wire"
)

// functionPath is the route of a function or of something below it.
func functionPath(app, name string, rest ...string) string {
	path := "/v1/apps/" + url.PathEscape(app) + "/functions"
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	for _, r := range rest {
		path += "/" + url.PathEscape(r)
	}
	return path
}

// fetch sends a management request with a JSON body, if in is not nil, and
// reads a JSON answer into out, if that is not nil.
func (c *Client) fetch(ctx context.Context, method, path string, in, out any, repeatable bool, header ...string) error {
	req := &request{method: method, path: path, id: newID(), repeatable: repeatable, header: http.Header{}}
	for i := 0; i+1 < len(header); i += 2 {
		req.header.Set(header[i], header[i+1])
	}
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		req.body = func() (io.Reader, error) { return bytes.NewReader(raw), nil }
		req.size = int64(len(raw))
		req.header.Set("Content-Type", "application/json")
	}
	return c.do(ctx, req, func(resp *http.Response) error {
		if resp.StatusCode/100 != 2 {
			return readProblem(resp, resp.Request.URL.Host)
		}
		if out == nil {
			_, err := io.Copy(io.Discard, resp.Body)
			return err
		}
		return json.NewDecoder(resp.Body).Decode(out)
	})
}

// Upload stores code and returns its digest. open is called for each attempt
// and must return the same content; size is its length.
func (c *Client) Upload(ctx context.Context, open func() (io.ReadCloser, error), size int64) (*wire.Upload, error) {
	var out wire.Upload
	req := &request{
		method: http.MethodPost, path: "/v1/code", id: newID(), repeatable: true, size: size, header: http.Header{},
		// The transport closes the body of a request when it is done with it.
		body: func() (io.Reader, error) { return open() },
	}
	req.header.Set("Content-Type", "application/octet-stream")
	err := c.do(ctx, req, func(resp *http.Response) error {
		if resp.StatusCode/100 != 2 {
			return readProblem(resp, resp.Request.URL.Host)
		}
		return json.NewDecoder(resp.Body).Decode(&out)
	})
	return &out, err
}

// Deploy makes a new version of a function.
func (c *Client) Deploy(ctx context.Context, app, name string, in wire.DeployRequest) (*wire.Deployed, error) {
	var out wire.Deployed
	// Repeatable because the cluster knows the request id of a deploy again.
	return &out, c.fetch(ctx, http.MethodPut, functionPath(app, name), in, &out, true)
}

// list reads a list.
func list[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	var out wire.List[T]
	err := c.fetch(ctx, http.MethodGet, path, nil, &out, true)
	return out.Items, err
}

// Functions lists the functions of an app, or of all apps if app is empty.
func (c *Client) Functions(ctx context.Context, app string) ([]wire.Function, error) {
	if app == "" {
		return list[wire.Function](ctx, c, "/v1/functions")
	}
	return list[wire.Function](ctx, c, functionPath(app, ""))
}

// Function describes a function.
func (c *Client) Function(ctx context.Context, app, name string) (*wire.Function, error) {
	var out wire.Function
	return &out, c.fetch(ctx, http.MethodGet, functionPath(app, name), nil, &out, true)
}

// DeleteFunction removes a function with all its versions and aliases.
func (c *Client) DeleteFunction(ctx context.Context, app, name string) error {
	return c.fetch(ctx, http.MethodDelete, functionPath(app, name), nil, nil, true)
}

// Versions lists the versions of a function, oldest first.
func (c *Client) Versions(ctx context.Context, app, name string) ([]wire.Version, error) {
	return list[wire.Version](ctx, c, functionPath(app, name, "versions"))
}

// DeleteVersion removes one version that no alias names.
func (c *Client) DeleteVersion(ctx context.Context, app, name string, version uint64) error {
	path := functionPath(app, name, "versions", strconv.FormatUint(version, 10))
	return c.fetch(ctx, http.MethodDelete, path, nil, nil, true)
}

// Aliases lists the aliases of a function by name.
func (c *Client) Aliases(ctx context.Context, app, name string) ([]wire.Alias, error) {
	return list[wire.Alias](ctx, c, functionPath(app, name, "aliases"))
}

// PutAlias makes or moves an alias. A revision other than 0 must be the one that
// the alias has, or the change is refused with [ErrConflict].
func (c *Client) PutAlias(ctx context.Context, app, name, alias string, in wire.AliasChange, revision uint64) (*wire.Alias, error) {
	var out wire.Alias
	var header []string
	if revision != 0 {
		header = []string{"If-Match", strconv.Quote(strconv.FormatUint(revision, 10))}
	}
	return &out, c.fetch(ctx, http.MethodPut, functionPath(app, name, "aliases", alias), in, &out, true, header...)
}

// DeleteAlias removes an alias.
func (c *Client) DeleteAlias(ctx context.Context, app, name, alias string) error {
	return c.fetch(ctx, http.MethodDelete, functionPath(app, name, "aliases", alias), nil, nil, true)
}

// Rollback moves an alias to an older version and returns it.
func (c *Client) Rollback(ctx context.Context, app, name string, in wire.RollbackRequest) (*wire.Alias, error) {
	var out wire.Alias
	return &out, c.fetch(ctx, http.MethodPost, functionPath(app, name, "rollback"), in, &out, true)
}

// Apps lists the apps.
func (c *Client) Apps(ctx context.Context) ([]wire.App, error) {
	return list[wire.App](ctx, c, "/v1/apps")
}

// PutLimits sets the limits of an app.
func (c *Client) PutLimits(ctx context.Context, app string, in wire.Limits) error {
	return c.fetch(ctx, http.MethodPut, "/v1/apps/"+url.PathEscape(app)+"/limits", in, nil, true)
}
