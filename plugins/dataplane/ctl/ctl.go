// Package ctl is the dataplane's part of ratchetctl.
package ctl

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/dataplane/api"
	balancer "github.com/ratchetos/ratchet/plugins/dataplane/balancer/ctl"
	group "github.com/ratchetos/ratchet/plugins/dataplane/group/ctl"
	lease "github.com/ratchetos/ratchet/plugins/dataplane/lease/ctl"
	vni "github.com/ratchetos/ratchet/plugins/dataplane/vni/ctl"
	"github.com/ratchetos/ratchet/plugins/internal/command"
)

const plugin = "dataplane"

// Command is `ratchetctl dataplane`.
func Command(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "dataplane", Short: "NICs apart from the management network, balancer, interface groups, leases",
		Example: "  ratchetctl dataplane links\n  ratchetctl dataplane backends web -w\n  ratchetctl dataplane drops",
	}
	c.AddCommand(links(app), agent(app), probe(app))
	c.AddCommand(balancer.Command(app)...)
	c.AddCommand(group.Command(app)...)
	c.AddCommand(vni.Command(app)...)
	c.AddCommand(lease.Command(app)...)
	return c
}

func links(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "links", Short: "List links with carrier, addresses and counters", Args: cobra.NoArgs,
		Example: "  ratchetctl dataplane links\n  ratchetctl dataplane links -w\n  ratchetctl dataplane links -o json",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var reply api.LinksReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodLinks, struct{}{}, &reply); err != nil {
			return err
		}
		return app.Print(reply, []string{"LINK", "NIC", "CARRIER", "MTU", "ADDRESSES", "RX", "TX", "PROBLEM"}, rows(reply))
	})
}

func rows(reply api.LinksReply) [][]string {
	var out [][]string
	for _, l := range reply.Links {
		carrier := "down"
		if l.Carrier {
			carrier = "up"
		}
		out = append(out, []string{
			l.Name, l.NIC, carrier, strconv.FormatUint(uint64(l.MTU), 10), strings.Join(l.Addresses, " "),
			strconv.FormatUint(l.RxBytes, 10), strconv.FormatUint(l.TxBytes, 10), l.Problem,
		})
	}
	return out
}
