// Command covey is the node daemon and the command line of Covey. It only
// translates the operating system; everything else is package cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/covey-dev/covey/node/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default comes back, so that a second one ends
	// a process that takes too long to stop.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, cli.System(), os.Args[1:]))
}
