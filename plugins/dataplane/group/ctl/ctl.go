// Package ctl is the interface groups' part of ratchetctl.
package ctl

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/dataplane/group/api"
	"github.com/ratchetos/ratchet/plugins/internal/command"
)

const plugin = "dataplane"

// Command are the commands below `ratchetctl dataplane`.
func Command(app command.App) []*cobra.Command {
	c := &cobra.Command{
		Use: "group", Short: "Interface groups: create, add members, drain, look after",
		Example: "  ratchetctl dataplane group create web 10.9.0.1\n  ratchetctl dataplane group add web web-1 --vni 1001\n  ratchetctl dataplane group list -w",
	}
	c.AddCommand(list(app, "list"), show(app), clients(app), log(app), create(app), remove(app), add(app), end(app), drain(app), promote(app))
	return []*cobra.Command{c, list(app, "members")}
}

// groupNames completes the name of a group.
func groupNames(ctx context.Context, app command.App) (names []string, err error) {
	var reply api.ListReply
	err = app.Invoke(ctx, plugin, api.MethodList, struct{}{}, &reply)
	for _, g := range reply.Groups {
		names = append(names, fmt.Sprintf("%s\t%d members", g.Name, len(g.Members)))
	}
	return names, err
}

func list(app command.App, use string) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: "List interface groups with their members and each one's share of new flows", Args: cobra.NoArgs,
		Example: "  ratchetctl dataplane members -w\n  ratchetctl dataplane group list -o json",
	}
	if use == "list" {
		c.Aliases = []string{"ls"}
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var reply api.ListReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodList, struct{}{}, &reply); err != nil {
			return err
		}
		var rows [][]string
		for _, g := range reply.Groups {
			rows = append(rows, g.Rows()...)
		}
		return app.Print(reply, api.MemberColumns(), rows)
	})
}

func show(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "show GROUP", Short: "Show one group", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(groupNames).First(app),
		Example: "  ratchetctl dataplane group show web",
		RunE: func(cmd *cobra.Command, args []string) error {
			var g api.Group
			if err := app.Invoke(cmd.Context(), plugin, api.MethodShow, api.Name{Name: args[0]}, &g); err != nil {
				return err
			}
			return app.Print(g, api.MemberColumns(), g.Rows())
		},
	}
}

func clients(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "clients", Short: "List the hosts that follow the groups, the slowest first", Args: cobra.NoArgs,
		Example: "  ratchetctl dataplane group clients -w",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var reply api.ClientsReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodClients, struct{}{}, &reply); err != nil {
			return err
		}
		var rows [][]string
		for _, k := range reply.Clients {
			rows = append(rows, k.Cells())
		}
		return app.Print(reply, api.ClientColumns(), rows)
	})
}

func log(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "log", Short: "List the latest changes, oldest first, since the plugin started", Args: cobra.NoArgs,
		Example: "  ratchetctl dataplane group log",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var reply api.LogReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodLog, struct{}{}, &reply); err != nil {
				return err
			}
			var rows [][]string
			for _, e := range reply.Entries {
				rows = append(rows, []string{e.Version, e.What})
			}
			return app.Print(reply, []string{"VERSION", "CHANGE"}, rows)
		},
	}
}

// change makes a call and prints which version came of it.
func change(cmd *cobra.Command, app command.App, method string, request any) error {
	var reply api.Changed
	if err := app.Invoke(cmd.Context(), plugin, method, request, &reply); err != nil {
		return err
	}
	return app.Print(reply, []string{"VERSION"}, [][]string{{reply.Version}})
}

func create(app command.App) *cobra.Command {
	var r api.CreateRequest
	c := &cobra.Command{
		Use: "create GROUP ADDRESS…", Short: "Make a group that answers to addresses", Args: cobra.MinimumNArgs(2),
		Long: `Make an interface group. Its addresses, IPv4 or IPv6, belong to no host: the agents of all hosts send what goes
to them to the group's members, over VXLAN.

--policy says what a host does once it cannot confirm the membership any more, after its lease: closed drops the
packets, so that nothing reaches a member that may have been replaced; open goes on with the last membership.`,
		Example: "  ratchetctl dataplane group create web 10.9.0.1 2001:db8:9::1\n  ratchetctl dataplane group create dns 10.9.0.53 --policy open",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Name = args[0]
			for _, s := range args[1:] {
				a, err := netip.ParseAddr(s)
				if err != nil {
					return fmt.Errorf("%q is no address; give IPv4 or IPv6, as 10.9.0.1", s)
				}
				r.Addresses = append(r.Addresses, a)
			}
			return change(cmd, app, api.MethodCreate, r)
		},
	}
	c.Flags().StringVar(&r.Policy, "policy", "closed", "closed or open: of hosts that cannot confirm the membership")
	return c
}

func remove(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "delete GROUP", Short: "Delete a group; its addresses are nobody's at once", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(groupNames).First(app),
		Example: "  ratchetctl dataplane group delete web",
		RunE: func(cmd *cobra.Command, args []string) error {
			return change(cmd, app, api.MethodDelete, api.Name{Name: args[0]})
		},
	}
}

func add(app command.App) *cobra.Command {
	var r api.AddRequest
	var host string
	c := &cobra.Command{
		Use: "add GROUP MEMBER", Short: "Make a VNI a member of a group", Args: cobra.ExactArgs(2), ValidArgsFunction: command.Names(groupNames).First(app),
		Long: `Make a VNI a member of a group. A VNI that this box attaches to instances (attachments) is reached where it is
attached, and follows it when it moves: give --vni alone. For another one say on which host it is.`,
		Example: "  ratchetctl dataplane group add web web-1 --vni 1001\n  ratchetctl dataplane group add web web-2 --vni 1002 --host 192.0.2.12 --mac 02:00:00:00:10:02",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Group, r.Member = args[0], args[1]
			if host != "" {
				var err error
				if r.Host, err = netip.ParseAddr(host); err != nil {
					return fmt.Errorf("--host %q is no address; give IPv4 or IPv6, as 192.0.2.12", host)
				}
			}
			return change(cmd, app, api.MethodAdd, r)
		},
	}
	c.Flags().Uint32Var(&r.VNI, "vni", 0, "virtual network interface, 1 to 16777215")
	c.Flags().StringVar(&host, "host", "", "address of the member's host; without it the member is down until its VNI is attached")
	c.Flags().StringVar(&r.MAC, "mac", "", "of the instance's interface; the host's own stack when empty")
	c.Flags().Uint16Var(&r.Weight, "weight", 1, "share of new flows, 1 to 1000")
	_ = c.MarkFlagRequired("vni") // fails for a flag that does not exist
	return c
}

func end(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "remove GROUP MEMBER", Short: "End a membership at once, with its flows (drain first to spare them)", Args: cobra.ExactArgs(2), ValidArgsFunction: command.Names(groupNames).First(app),
		Example: "  ratchetctl dataplane group remove web web-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			return change(cmd, app, api.MethodRemove, api.MemberRequest{Group: args[0], Member: args[1]})
		},
	}
}

func drain(app command.App) *cobra.Command {
	var r api.DrainRequest
	c := &cobra.Command{
		Use: "drain GROUP MEMBER", Short: "Let a member keep its flows and give it no new ones", Args: cobra.ExactArgs(2), ValidArgsFunction: command.Names(groupNames).First(app),
		Example: "  ratchetctl dataplane group drain web web-1\n  ratchetctl dataplane group drain web web-1 --undo",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Group, r.Member = args[0], args[1]
			return change(cmd, app, api.MethodDrain, r)
		},
	}
	c.Flags().BoolVar(&r.Undo, "undo", false, "give it new flows again")
	return c
}

func promote(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "promote", Short: "Lead the groups from this box, with the groups that this box has", Args: cobra.NoArgs,
		Long: `Take a new term, above any that this box has heard of. Hosts that hear of it follow this box's groups from then on
and never again an older term; another box that still leads is fenced by the first word of such a host.`,
		Example: "  ratchetctl dataplane group promote",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return change(cmd, app, api.MethodPromote, struct{}{})
		},
	}
}
