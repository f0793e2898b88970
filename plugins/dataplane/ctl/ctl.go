// Package ctl is the dataplane's part of ratchetctl.
package ctl

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/dataplane/api"
)

// App is what ratchetctl offers to a plugin's commands.
type App interface {
	// Invoke calls a method of a plugin's management service through core.
	Invoke(ctx context.Context, plugin, method string, request, reply any) error
	// Print writes value as JSON or YAML, or calls table, as the user chose.
	Print(value any, table func(w io.Writer)) error
}

// Command is `ratchetctl dataplane`.
func Command(app App) *cobra.Command {
	c := &cobra.Command{Use: "dataplane", Short: "NICs, addresses and routes of the dataplane"}
	c.AddCommand(&cobra.Command{
		Use: "links", Short: "List links with carrier, addresses and counters", Args: cobra.NoArgs,
		Example: "  ratchetctl dataplane links\n  ratchetctl dataplane links -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var reply api.LinksReply
			if err := app.Invoke(cmd.Context(), "dataplane", api.MethodLinks, struct{}{}, &reply); err != nil {
				return err
			}
			return app.Print(reply, func(w io.Writer) { table(w, reply) })
		},
	})
	return c
}

func table(w io.Writer, reply api.LinksReply) {
	fmt.Fprintln(w, "LINK\tNIC\tCARRIER\tMTU\tADDRESSES\tRX BYTES\tTX BYTES\tPROBLEM")
	for _, l := range reply.Links {
		carrier := "down"
		if l.Carrier {
			carrier = "up"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%d\t%d\t%s\n", cell(l.Name), l.NIC, carrier, l.MTU, cell(strings.Join(l.Addresses, " ")), l.RxBytes, l.TxBytes, cell(l.Problem))
	}
}

// cell keeps an empty column visible.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
