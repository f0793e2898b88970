// Package ctl is the VNIs' part of ratchetctl.
package ctl

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/dataplane/vni/api"
	"github.com/ratchetos/ratchet/plugins/internal/command"
)

const plugin = "dataplane"

// Command are the commands below `ratchetctl dataplane`.
func Command(app command.App) []*cobra.Command {
	c := &cobra.Command{
		Use: "vni", Short: "Virtual network interfaces: where they are attached, and moving them",
		Example: "  ratchetctl dataplane vni list -w\n  ratchetctl dataplane vni move 71 host2/web-2",
	}
	c.AddCommand(list(app), move(app), packets(app))
	return []*cobra.Command{c}
}

// vniIDs completes the number of a VNI.
func vniIDs(ctx context.Context, app command.App) (ids []string, err error) {
	var reply api.ListReply
	err = app.Invoke(ctx, plugin, api.MethodList, struct{}{}, &reply)
	for _, i := range reply.Interfaces {
		ids = append(ids, fmt.Sprintf("%d\t%s", i.ID, i.State))
	}
	return ids, err
}

func list(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List VNIs with who holds them and who stands by", Args: cobra.NoArgs,
		Example: "  ratchetctl dataplane vni list -w\n  ratchetctl dataplane vni list -o json",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var reply api.ListReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodList, struct{}{}, &reply); err != nil {
			return err
		}
		var rows [][]string
		for _, i := range reply.Interfaces {
			rows = append(rows, i.Row())
		}
		return app.Print(reply, api.Columns(), rows)
	})
}

func move(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "move VNI HOST/INSTANCE", Short: "Attach a VNI to another of its candidates", Args: cobra.ExactArgs(2), ValidArgsFunction: command.Names(vniIDs).First(app),
		Long:    "The holder lets go first, or its lease runs out; then the other one gets the VNI. Nothing moves it back by itself.",
		Example: "  ratchetctl dataplane vni move 71 host2/web-2",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[0], 10, 24)
			host, instance, ok := strings.Cut(args[1], "/")
			if err != nil || !ok || host == "" || instance == "" {
				return fmt.Errorf("move %s %s: name the VNI by its number and the candidate as HOST/INSTANCE", args[0], args[1])
			}
			return app.Invoke(cmd.Context(), plugin, api.MethodMove, api.MoveRequest{ID: uint32(id), Host: host, Instance: instance}, &struct{}{})
		},
	}
}

func packets(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "packets", Short: "Show what the hosts delivered and dropped, by reason", Args: cobra.NoArgs,
		Example: "  ratchetctl dataplane vni packets -w",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var reply api.PacketsReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodPackets, struct{}{}, &reply); err != nil {
			return err
		}
		var rows [][]string
		for _, h := range reply.Hosts {
			rows = append(rows, h.Rows()...)
		}
		return app.Print(reply, api.PacketColumns(), rows)
	})
}
