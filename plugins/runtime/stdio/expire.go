package stdio

import (
	"context"
	"errors"
	"time"
)

// nodesTurn is how long an answer after the deadline is held back.
const nodesTurn = 500 * time.Millisecond

// Expired returns the error of a call whose context has ended. If its deadline has passed, the node ends the instance
// and gives its caller an answer of its own, which one from here would only race with: so it comes late, for a node
// that let the instance live.
func Expired(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		time.Sleep(nodesTurn)
	}
	return ctx.Err()
}
