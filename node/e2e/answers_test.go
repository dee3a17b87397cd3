package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"sort"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
)

// answers is what the API says about everything that a data directory holds, by
// path, without what depends on the moment.
func (c *cluster) answers() map[string]any {
	c.t.Helper()
	all, err := c.askAll()
	if err != nil {
		c.t.Fatal(err)
	}
	return all
}

func (c *cluster) askAll() (map[string]any, error) {
	all := map[string]any{}
	paths := []string{"/v1/apps", "/v1/functions", "/v1/tokens", "/v1/nodes"}
	for _, f := range []string{"/v1/apps/default/functions/noted", "/v1/apps/shop/functions/checkout"} {
		paths = append(paths, f+"/versions", f+"/aliases")
	}
	for _, path := range paths {
		items, err := c.items(path)
		if err != nil {
			return nil, err
		}
		all[path] = items
	}
	// Join tokens end within the week, and nodes change with the machine.
	all["/v1/tokens"] = slices.DeleteFunc(all["/v1/tokens"].([]any), func(token any) bool {
		return token.(map[string]any)["kind"] != wire.KindAPI
	})
	for i, n := range all["/v1/nodes"].([]any) {
		kept := map[string]any{}
		for _, field := range []string{"id", "name", "role", "draining", "joined"} {
			kept[field] = n.(map[string]any)[field]
		}
		all["/v1/nodes"].([]any)[i] = kept
	}
	usage, err := c.usage()
	all["/v1/usage"] = usage
	return all, err
}

// items reads a list of the API as it is.
func (c *cluster) items(path string) ([]any, error) {
	var list struct {
		Items []any `json:"items"`
	}
	status, body, err := request(http.MethodGet, c.nodes[0], path, c.token)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %s", path, status, body)
	}
	if err != nil {
		return nil, err
	}
	return list.Items, json.Unmarshal(body, &list)
}

// request sends a request without a body. The client of package client is the new
// release's; this is what anybody sees.
func request(method string, n *node, path, token string) (status int, body []byte, err error) {
	req, err := http.NewRequest(method, "http://"+n.api+path, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	hc := http.Client{Timeout: 10 * time.Second}
	resp, err := hc.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}

// usage sums the usage of each function over all times: how it is split changes as
// it grows old.
func (c *cluster) usage() (map[string]any, error) {
	status, body, err := request(http.MethodGet, c.nodes[0], "/v1/usage?since=2020-01-01T00:00:00Z", c.token)
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("usage: status %d: %s: %w", status, body, err)
	}
	var report struct {
		Rows    []map[string]any `json:"rows"`
		Missing []string         `json:"missing"`
	}
	if err := json.Unmarshal(body, &report); err != nil {
		return nil, err
	}
	if len(report.Missing) > 0 {
		return nil, fmt.Errorf("usage of %v is missing", report.Missing)
	}
	sums := map[string]any{}
	for _, row := range report.Rows {
		for field, value := range row {
			if number, ok := value.(float64); ok {
				key := fmt.Sprintf("%s/%s %s", row["app"], row["function"], field)
				sum, _ := sums[key].(float64)
				sums[key] = sum + number
			}
		}
	}
	return sums, nil
}

// lacking lists what of an old answer is not in a new one, which may say more.
func lacking(at string, was, is any) []string {
	var found []string
	switch was := was.(type) {
	case map[string]any:
		is, _ := is.(map[string]any)
		for key, value := range was {
			found = append(found, lacking(at+"."+key, value, is[key])...)
		}
		sort.Strings(found)
	case []any:
		is, _ := is.([]any)
		if len(is) != len(was) {
			return []string{fmt.Sprintf("%s has %d elements, had %d", at, len(is), len(was))}
		}
		for i := range was {
			found = append(found, lacking(fmt.Sprintf("%s[%d]", at, i), was[i], is[i])...)
		}
	default:
		if !reflect.DeepEqual(was, is) {
			found = append(found, fmt.Sprintf("%s is %v, was %v", at, is, was))
		}
	}
	return found
}
