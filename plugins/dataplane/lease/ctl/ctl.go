// Package ctl is leasing's part of ratchetctl.
package ctl

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/dataplane/lease/api"
	"github.com/ratchetos/ratchet/plugins/internal/command"
)

const plugin = "dataplane"

// Command is what hangs below `ratchetctl dataplane`: lease, and the live table leases.
func Command(app command.App) []*cobra.Command {
	c := &cobra.Command{
		Use: "lease", Short: "Services whose producers this box leases to hosts",
		Example: "  ratchetctl dataplane lease services\n  ratchetctl dataplane lease list --service web -w",
	}
	c.AddCommand(list(app, "list"), show(app), services(app), revoke(app))
	table := list(app, "leases")
	table.Aliases = nil
	return []*cobra.Command{c, table}
}

// serviceNames completes the name of a service.
func serviceNames(ctx context.Context, app command.App) (names []string, err error) {
	var reply api.ServicesReply
	err = app.Invoke(ctx, plugin, api.MethodServices, struct{}{}, &reply)
	for _, s := range reply.Services {
		names = append(names, fmt.Sprintf("%s\t%d leased", s.Name, s.Leased))
	}
	return names, err
}

func list(app command.App, use string) *cobra.Command {
	var request api.ListRequest
	path := "lease list"
	if use == "leases" {
		path = use
	}
	c := &cobra.Command{
		Use: use, Aliases: []string{"ls"}, Short: "List leases in use, those that run out first first", Args: cobra.NoArgs,
		Example: fmt.Sprintf("  ratchetctl dataplane %s\n  ratchetctl dataplane %s --service web -w", path, path),
	}
	c.Flags().StringVar(&request.Service, "service", "", "leases of this service only")
	c.Flags().IntVar(&request.Limit, "limit", 0, "at most that many (1,000 when 0)")
	return command.Watch(c, func(cmd *cobra.Command) error {
		var reply api.ListReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodList, request, &reply); err != nil {
			return err
		}
		var rows [][]string
		for _, l := range reply.Leases {
			rows = append(rows, l.Cells())
		}
		return app.Print(reply, api.LeaseColumns(), rows)
	})
}

func show(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "show SERVICE", Short: "Show a service's producers and their shares", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(serviceNames).First(app),
		Example: "  ratchetctl dataplane lease show web",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var reply api.Service
		if err := app.Invoke(cmd.Context(), plugin, api.MethodShow, api.Name{Name: cmd.Flags().Arg(0)}, &reply); err != nil {
			return err
		}
		return app.Print(reply, api.ProducerColumns(), reply.Rows())
	})
}

func services(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "services", Short: "List leased services", Args: cobra.NoArgs, Example: "  ratchetctl dataplane lease services",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var reply api.ServicesReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodServices, struct{}{}, &reply); err != nil {
			return err
		}
		var rows [][]string
		for _, s := range reply.Services {
			rows = append(rows, s.Cells())
		}
		return app.Print(reply, api.ServiceColumns(), rows)
	})
}

func revoke(app command.App) *cobra.Command {
	var request api.RevokeRequest
	c := &cobra.Command{
		Use: "revoke SERVICE", Short: "End leases of a producer or a consumer", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(serviceNames).First(app),
		Long: `End the leases that this box has granted of a producer, to a consumer's host, or both. Hosts hear of it at once and get
another producer if there is one; a host that cannot be reached stops when its lease runs out. For a TTL they do not
get the same producer again. Other boxes' leases are not touched.`,
		Example: "  ratchetctl dataplane lease revoke web --producer web-3\n  ratchetctl dataplane lease revoke web --consumer host-7",
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Service = args[0]
			var reply api.RevokeReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodRevoke, request, &reply); err != nil {
				return err
			}
			return app.Print(reply, []string{"REVOKED"}, [][]string{{strconv.Itoa(reply.Revoked)}})
		},
	}
	c.Flags().StringVar(&request.Producer, "producer", "", "leases of this producer")
	c.Flags().StringVar(&request.Consumer, "consumer", "", "leases of this host")
	return c
}
