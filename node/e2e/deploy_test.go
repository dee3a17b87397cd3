package e2e

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
)

// TestDeployOutlivesTheNodeThatTookIt kills the node that a deploy went through
// at the moment that the deploy returned: the function runs elsewhere.
func TestDeployOutlivesTheNodeThatTookIt(t *testing.T) {
	t.Parallel()
	rounds := 3
	if soak() {
		rounds = 100
	}
	c := newCluster(t, 3)
	c.awaitWhole(3, formTime)
	for round := range rounds {
		receiver := c.nodes[round%len(c.nodes)]
		spec := wire.FunctionSpec{Env: map[string]string{"ROUND": time.Now().String()}}
		v := c.deploy("noted", spec, receiver)
		receiver.kill()
		// Any node that lives must know the version and find its code, at once for
		// those who ask again as the answer tells them to.
		for _, n := range c.up() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			await(t, 10*time.Second, "version on "+n.name, func() error {
				_, err := c.once(n).Invoke(ctx, &client.Call{
					Function: "noted", Qualifier: strconv.FormatUint(v.Number, 10), Body: []byte(`{"op":"` + ledger.OpNote + `"}`),
				})
				return err
			})
			cancel()
		}
		receiver.start()
		c.awaitWhole(3, 30*time.Second)
	}
}
