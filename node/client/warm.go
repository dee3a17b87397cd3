package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
)

// warmEvery is the pause between two looks at a warm-up.
const warmEvery = 200 * time.Millisecond

// ErrNotWarm says that the instances of a version did not get ready: they fail, or the
// time was over.
var ErrNotWarm = errors.New("the version does not get ready")

// WarmUp starts instances of a version before calls go to it and waits until they are
// ready. It tells progress, if that is not nil, of each report. It fails with
// [ErrNotWarm] as soon as the instances of a node cannot start, and when ctx ends.
func (c *Client) WarmUp(ctx context.Context, app, name string, version uint64, in wire.WarmRequest, progress func(*wire.WarmReport)) error {
	path := functionPath(app, name, "versions", strconv.FormatUint(version, 10), "warm") + "?consistent=true"
	tick := time.NewTicker(warmEvery)
	defer tick.Stop()
	var last wire.WarmReport
	for {
		var report wire.WarmReport
		err := c.fetch(ctx, http.MethodPost, path, in, &report, true)
		switch {
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("%w in time: %s: %w", ErrNotWarm, warmth(last.Nodes), ctx.Err())
		case err != nil:
			return err
		}
		last, in.Nodes = report, report.Nodes
		if progress != nil {
			progress(&report)
		}
		switch {
		case report.Ready:
			return nil
		case report.Failed:
			return fmt.Errorf("%w: %s", ErrNotWarm, warmth(report.Nodes))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w in time: %s: %w", ErrNotWarm, warmth(last.Nodes), ctx.Err())
		case <-tick.C:
		}
	}
}

// warmth says in words what is missing.
func warmth(nodes []wire.WarmNode) string {
	if len(nodes) == 0 {
		return "no live node may run it"
	}
	var missing []string
	for _, at := range nodes {
		if at.Ready >= at.Wanted {
			continue
		}
		name, why := at.Name, at.Problem
		if name == "" {
			name = at.Node
		}
		if why == "" {
			why = "still starting"
		}
		missing = append(missing, fmt.Sprintf("%s has %d of %d instances: %s", name, at.Ready, at.Wanted, why))
	}
	return strings.Join(missing, "; ")
}
