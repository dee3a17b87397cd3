package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// statusCommand is `covey status`. A missing quorum is an exit code as well as a
// line, so that a script can wait for one.
func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the cluster as one of its nodes sees it",
		Long:    "Status shows the cluster as one of its nodes sees it. Without a quorum it exits with code 6.",
		Example: "  covey status\n  covey status -o json",
		Args:    none,
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			s, err := c.Status(cmd.Context())
			if err != nil {
				return fmt.Errorf("read status: %w", err)
			}
			if a.json() {
				err = a.printJSON(s)
			} else {
				err = a.showStatus(s)
			}
			if err == nil && !s.Quorum {
				return fmt.Errorf("the cluster has no quorum: known functions run, nothing can be changed: %w", client.ErrUnavailable)
			}
			return err
		}),
	}
}

// showStatus prints a status for people.
func (a *app) showStatus(s *wire.Status) error {
	leader := s.Leader
	if leader == "" {
		leader = "none"
	}
	t := newTable("cluster", s.ClusterID)
	t.row("answered by", fmt.Sprintf("%s (%s), %s, up since %s", s.Name, s.Node, s.Role, cell(s.Started)))
	t.row("leader", leader)
	t.row("quorum", s.Quorum)
	t.row("nodes", fmt.Sprintf("%d alive: %d voters, %d standbys, %d observers", s.Alive, s.Voters, s.Standbys, s.Observers))
	t.row("functions", fmt.Sprintf("%d in %d apps", s.Functions, s.Apps))
	t.row("state", fmt.Sprintf("index %d, feature level %d", s.Index, s.FeatureLevel))
	t.row("build", s.Build)
	for _, w := range s.Warnings {
		t.row("warning", w)
	}
	return t.write(a.env.Stdout)
}

// nodesCommand is `covey nodes`. Warnings go to standard error, where they do not
// disturb a script that cuts columns.
func (a *app) nodesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "nodes", Short: "List nodes",
		Example: "  covey nodes\n  covey nodes -o json",
		Args:    none,
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			nodes, err := c.Nodes(cmd.Context())
			if err != nil {
				return fmt.Errorf("list nodes: %w", err)
			}
			if a.json() {
				return a.printJSON(nodes)
			}
			t := newTable("NAME", "ID", "STATE", "ROLE", "API", "SANDBOX", "INSTANCES", "IN FLIGHT", "QUEUED", "MEMORY", "RUNTIMES", "LABELS")
			for _, n := range nodes {
				memory := "-"
				if n.MemoryBudgetBytes > 0 {
					memory = size(n.MemoryUsedBytes) + " of " + size(n.MemoryBudgetBytes)
				}
				t.row(n.Name, n.ID, nodeState(&n), nodeRole(&n), n.API, n.Sandbox, n.Instances, n.InFlight, n.Queued, memory,
					strings.Join(n.Runtimes, ","), labelText(n.Labels))
			}
			if err := t.write(a.env.Stdout); err != nil {
				return err
			}
			for _, n := range nodes {
				for _, w := range n.Warnings {
					a.say("node %s: %s", n.Name, w)
				}
			}
			return nil
		}),
	}
}

// nodeState is one word for what gossip and the operator say of a node.
func nodeState(n *wire.NodeStatus) string {
	switch {
	case !n.Alive:
		return "silent"
	case n.Draining:
		return "draining"
	default:
		return "alive"
	}
}

func nodeRole(n *wire.NodeStatus) string {
	if n.Leader {
		return n.Role + " (leader)"
	}
	return n.Role
}

// nodeCommand is `covey node drain` and `covey node remove`.
func (a *app) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Drain or remove a node", Args: none}
	var off bool
	drain := &cobra.Command{
		Use: "drain NODE", Short: "Move work off a node, or let it back",
		Example: "  covey node drain rack-2\n  covey node drain rack-2 --off",
		Args:    exactly(1, "NODE, a name or an id"),
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
			if err := c.Drain(cmd.Context(), args[0], !off); err != nil {
				return fmt.Errorf("drain %s: %w", args[0], err)
			}
			if off {
				a.say("node %s takes work again", args[0])
			} else {
				a.say("node %s is draining", args[0])
			}
			return nil
		}),
	}
	drain.Flags().BoolVar(&off, "off", false, "end the drain")
	remove := &cobra.Command{
		Use: "remove NODE", Short: "Remove a node for ever",
		Long:    "Remove takes a node out of the cluster and burns its id. The machine can join again, as a new node, with an empty data directory.",
		Example: "  covey node remove rack-2",
		Args:    exactly(1, "NODE, a name or an id"),
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
			if err := c.RemoveNode(cmd.Context(), args[0]); err != nil {
				return fmt.Errorf("remove %s: %w", args[0], err)
			}
			a.say("removed node %s", args[0])
			return nil
		}),
	}
	cmd.AddCommand(drain, remove)
	return cmd
}

// tokenCommand is `covey token create`, `list` and `revoke`.
func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Create, list and revoke tokens", Args: none}
	cmd.AddCommand(a.tokenCreateCommand(), &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List tokens, without their secrets",
		Example: "  covey token list",
		Args:    none,
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			tokens, err := c.Tokens(cmd.Context())
			if err != nil {
				return fmt.Errorf("list tokens: %w", err)
			}
			if a.json() {
				return a.printJSON(tokens)
			}
			t := newTable("ID", "KIND", "SCOPES", "APP", "EXPIRES", "DESCRIPTION")
			for _, k := range tokens {
				t.row(k.ID, k.Kind, strings.Join(k.Scopes, ","), k.App, k.Expires, k.Description)
			}
			return t.write(a.env.Stdout)
		}),
	}, &cobra.Command{
		Use: "revoke ID", Aliases: []string{"rm"}, Short: "End a token",
		Example: "  covey token revoke 01JD3Y3K9V6T5R0ZC8M2B1X4QF",
		Args:    exactly(1, "the ID of a token"),
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, args []string) error {
			if err := c.RevokeToken(cmd.Context(), args[0]); err != nil {
				return fmt.Errorf("revoke %s: %w", args[0], err)
			}
			a.say("revoked %s", args[0])
			return nil
		}),
	})
	return cmd
}

// tokenRequest is what the flags of `covey token create` say.
type tokenRequest struct {
	kind        string
	scopes      []string
	confine     string
	ttl         time.Duration
	forever     bool
	uses        int
	description string
}

// tokenCreateCommand is `covey token create`. The app that a token is confined to
// has a flag of its own: the setting "app" in a file must not confine tokens
// that were meant for the cluster.
func (a *app) tokenCreateCommand() *cobra.Command {
	in := &tokenRequest{}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a token or an access key and print it, alone",
		Long: `Create prints the new token alone on standard output. It cannot be shown again.

An API token (--kind api) opens the HTTP API within its scopes:
  read    look at functions, logs and usage
  invoke  call functions
  deploy  change functions, and read and call them
  admin   everything
A join token (--kind join) lets machines become nodes. An access key (--kind aws-key)
is what AWS's clients sign requests to Lambda's API with; it is printed as two lines
for a shell. Without --scope it may invoke.`,
		Example: `  covey token create --kind join
  covey token create --scope invoke --confine shop --ttl 720h
  eval "$(covey token create --kind aws-key)"`,
		Args: none,
		RunE: a.with(func(cmd *cobra.Command, c *client.Client, _ []string) error { return a.createToken(cmd, c, in) }),
	}
	f := cmd.Flags()
	f.StringVar(&in.kind, "kind", wire.KindAPI, "api, join or aws-key")
	f.StringSliceVar(&in.scopes, "scope", nil, "scopes of an API token or access key: read, invoke, deploy, admin")
	f.StringVar(&in.confine, "confine", "", "app that an API token or access key is confined to (default none)")
	f.DurationVar(&in.ttl, "ttl", 0, "lifetime (default 90 days, of a join token 1 hour)")
	f.BoolVar(&in.forever, "forever", false, "an API token or access key that does not expire")
	f.IntVar(&in.uses, "uses", 0, "how many nodes may join with a join token, 0 for any number")
	f.StringVar(&in.description, "description", "", "what the token is for")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{wire.KindAPI, wire.KindJoin, wire.KindAWSKey}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions([]string{"read", "invoke", "deploy", "admin"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// createToken makes a token of any kind and prints it alone.
func (a *app) createToken(cmd *cobra.Command, c *client.Client, in *tokenRequest) error {
	if in.ttl < 0 || in.uses < 0 {
		return usagef("--ttl and --uses must not be negative")
	}
	seconds := int64(in.ttl / time.Second)
	var secret string
	var answer any
	switch in.kind {
	case wire.KindJoin:
		if len(in.scopes) > 0 || in.confine != "" || in.forever {
			return usagef("--scope, --confine and --forever are for API tokens and access keys")
		}
		token, err := c.CreateJoinToken(cmd.Context(), wire.JoinTokenRequest{TTLSeconds: seconds, Uses: in.uses})
		if err != nil {
			return fmt.Errorf("create join token: %w", err)
		}
		secret, answer = token.Token, token
	case wire.KindAPI, wire.KindAWSKey:
		if len(in.scopes) == 0 && in.kind == wire.KindAPI {
			return usagef("--scope is needed: read, invoke, deploy or admin")
		}
		if in.uses != 0 {
			return usagef("--uses is for join tokens")
		}
		if in.forever {
			seconds = -1
		}
		token, err := c.CreateToken(cmd.Context(), wire.TokenRequest{
			Kind: kindOnWire(in.kind), Description: in.description, Scopes: in.scopes, App: in.confine, TTLSeconds: seconds,
		})
		if err != nil {
			return fmt.Errorf("create token: %w", err)
		}
		secret, answer = token.Secret, token
		if in.kind == wire.KindAWSKey {
			secret = "export AWS_ACCESS_KEY_ID=" + token.ID + "\nexport AWS_SECRET_ACCESS_KEY=" + token.Secret
		}
	default:
		return usagef("--kind %q is none of api, join, aws-key", in.kind)
	}
	if a.json() {
		return a.printJSON(answer)
	}
	_, err := fmt.Fprintln(a.env.Stdout, secret)
	return err
}

// kindOnWire leaves the default out, which a node of the release before does not
// know by name.
func kindOnWire(kind string) string {
	if kind == wire.KindAPI {
		return ""
	}
	return kind
}
