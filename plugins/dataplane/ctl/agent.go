package ctl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/dataplane/api"
	"github.com/ratchetos/ratchet/plugins/internal/command"
	"github.com/ratchetos/ratchet/plugins/internal/enrol"
)

// agent is `ratchetctl dataplane agent`.
func agent(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "agent", Short: "Hosts that talk to this box: enrol, revoke, list",
		Example: "  ratchetctl dataplane agent enroll web-1 --file web-1.pem\n  ratchetctl dataplane agent list",
	}
	c.AddCommand(agentList(app), agentEnroll(app), agentRevoke(app))
	return c
}

func agentList(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List enrolled hosts and whether they are heard", Args: cobra.NoArgs,
		Example: "  ratchetctl dataplane agent list\n  ratchetctl dataplane agent list -w",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var reply api.AgentsReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodAgents, struct{}{}, &reply); err != nil {
			return err
		}
		var rows [][]string
		for _, a := range reply.Agents {
			rows = append(rows, a.Cells())
		}
		return app.Print(reply, api.AgentColumns(), rows)
	})
}

func agentEnroll(app command.App) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "enroll NAME", Short: "Enrol a host and print the file it needs", Args: cobra.ExactArgs(1),
		Long: `Enrol a host and print its identity file: certificate, private key and this box's authority, in PEM.
The box does not keep the key. Enrolling a host again makes its earlier file void.`,
		Example: "  ratchetctl dataplane agent enroll web-1 > web-1.pem\n  ratchetctl dataplane agent enroll web-1 --file /etc/ratchet/agent/box-1.pem",
		RunE: func(cmd *cobra.Command, args []string) error {
			var reply api.EnrollReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodEnroll, api.AgentRequest{Name: args[0]}, &reply); err != nil {
				return err
			}
			if out == "" {
				_, err := fmt.Fprint(cmd.OutOrStdout(), reply.Identity)
				return err
			}
			return enrol.WriteFile(out, reply.Identity)
		},
	}
	c.Flags().StringVar(&out, "file", "", "write it there, for the owner alone, instead of printing it")
	return c
}

// hostNames completes the name of an enrolled host.
func hostNames(ctx context.Context, app command.App) (names []string, err error) {
	var reply api.AgentsReply
	err = app.Invoke(ctx, plugin, api.MethodAgents, struct{}{}, &reply)
	for _, a := range reply.Agents {
		word := "away"
		if a.Joined {
			word = "joined"
		}
		names = append(names, a.Name+"\t"+word)
	}
	return names, err
}

func agentRevoke(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "Make a host's identity file void and end its session", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(hostNames).First(app),
		Example: "  ratchetctl dataplane agent revoke web-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.Invoke(cmd.Context(), plugin, api.MethodRevoke, api.AgentRequest{Name: args[0]}, &struct{}{})
		},
	}
}
