package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/node/client"
)

type invocation struct {
	data, file  string
	contentType string
	attributes  []string
	requestID   string
	key         string
	timeout     time.Duration
	logs        bool
	verbose     bool
}

// invokeCommand is `covey invoke`.
func (a *app) invokeCommand() *cobra.Command {
	in := &invocation{}
	cmd := &cobra.Command{
		Use:   "invoke [APP/]NAME[:QUALIFIER]",
		Short: "Call a function",
		Long: `Invoke calls a function and writes what it answers, and nothing else, to standard
output. The event comes from -d, from the file of -f, or from standard input when
that is not a terminal. The qualifier is a version, an alias or $LATEST.

Exit code 8 means that the function failed; its error is on standard error.`,
		Example: `  covey invoke hello -d '{"name":"you"}'
  covey invoke thumbnail -f photo.jpg --attribute width=200 > thumb.jpg
  covey invoke shop/checkout -d '{}' --key customer-17
  echo '{}' | covey invoke shop/checkout:canary -v`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.invoke(cmd, in, args[0]) },
	}
	f := cmd.Flags()
	f.StringVarP(&in.data, "data", "d", "", "the event itself")
	f.StringVarP(&in.file, "file", "f", "", "file with the event, - for standard input")
	f.StringVar(&in.contentType, "content-type", "", "type of the event (default application/json, or application/octet-stream with -f)")
	f.StringArrayVar(&in.attributes, "attribute", nil, "fact for the function beside the event, NAME=VALUE, may be repeated")
	f.StringVar(&in.requestID, "request-id", "", "id to use, for finding the call again")
	f.StringVar(&in.key, "key", "", "calls with the same key get the same version of a split alias and, with affinity, the same node")
	f.DurationVar(&in.timeout, "timeout", 0, "how long to wait (default as long as the function may run)")
	f.BoolVar(&in.logs, "logs", false, "show the end of the call's log on standard error")
	f.BoolVarP(&in.verbose, "verbose", "v", false, "show node, version, cold or warm, and times on standard error")
	return cmd
}

// invoke sends the call and copies the answer out as it arrives, so that streamed
// answers can be watched and large ones need no memory.
func (a *app) invoke(cmd *cobra.Command, in *invocation, target string) error {
	app, name, qualifier, err := a.target(target)
	if err != nil {
		return err
	}
	body, contentType, err := a.event(cmd, in)
	if err != nil {
		return err
	}
	attributes, err := pairs("--attribute", in.attributes)
	if err != nil {
		return err
	}
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := cmd.Context()
	if in.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, in.timeout)
		defer cancel()
	}
	reply, err := c.InvokeTo(ctx, &client.Call{
		App: app, Function: name, Qualifier: qualifier, Body: body, ContentType: contentType,
		RequestID: in.requestID, Key: in.key, Attributes: attributes, Logs: in.logs,
	}, a.env.Stdout)
	if err != nil {
		return fmt.Errorf("invoke %s/%s: %w", app, name, err)
	}
	if len(reply.Logs) > 0 {
		_, _ = a.env.Stderr.Write(reply.Logs)
	}
	if in.verbose {
		return a.showReply(reply)
	}
	return nil
}

// event finds the body of the call and its type.
func (a *app) event(cmd *cobra.Command, in *invocation) (body []byte, contentType string, err error) {
	contentType = in.contentType
	switch {
	case cmd.Flags().Changed("data") && in.file != "":
		return nil, "", usagef("-d and -f exclude each other")
	case cmd.Flags().Changed("data"):
		return []byte(in.data), contentType, nil
	case in.file != "" && in.file != "-":
		if contentType == "" && !strings.HasSuffix(in.file, ".json") {
			contentType = "application/octet-stream"
		}
		body, err = os.ReadFile(in.file)
		if err != nil {
			return nil, "", usagef("read event: %w", err)
		}
		return body, contentType, nil
	case in.file == "" && terminal(a.env.Stdin):
		return nil, contentType, nil
	}
	if body, err = io.ReadAll(a.env.Stdin); err != nil {
		return nil, "", fmt.Errorf("read event from standard input: %w", err)
	}
	return body, contentType, nil
}

// showReply tells on standard error how the call went.
func (a *app) showReply(r *client.Reply) error {
	steps := strings.NewReplacer(";dur=", "=", ", ", "ms ").Replace(r.Timing)
	start := "warm"
	if r.Cold {
		start = "cold"
	}
	if a.json() {
		err := json.NewEncoder(a.env.Stderr).Encode(map[string]any{
			"request_id": r.RequestID, "version": r.Version, "node": r.Node, "start": start,
			"status": r.Status, "content_type": r.ContentType, "timing": r.Timing,
		})
		return errors.Join(err)
	}
	if steps != "" {
		steps += "ms"
	}
	a.say("request=%s version=%s node=%s start=%s status=%d %s", r.RequestID, r.Version, r.Node, start, r.Status, steps)
	return nil
}
