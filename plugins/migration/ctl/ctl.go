// Package ctl is the migration plugin's part of ratchetctl.
package ctl

import (
	"context"

	"github.com/spf13/cobra"
)

// App is what ratchetctl offers to a plugin's commands.
type App interface {
	// Invoke calls a method of a plugin's management service through core.
	Invoke(ctx context.Context, plugin, method string, request, reply any) error
	// Print writes value as JSON or YAML, or the table, as the user chose.
	Print(value any, columns []string, rows [][]string) error
}

const plugin = "migration"

// Command is `ratchetctl migrate`.
func Command(app App) *cobra.Command {
	c := &cobra.Command{
		Use: "migrate", Short: "Move VMs between hypervisor hosts, also to another type",
		Long: `Move running VMs between the hosts of the configuration, and give them other processors, memory or device models
on the way. ` + "`plan`" + ` shows what would be done and what cannot be; ` + "`apply`" + ` does it; ` + "`status -w`" + ` shows how it goes on.`,
	}
	c.AddCommand(hosts(app), host(app), vms(app), show(app), types(app))
	c.AddCommand(planned(app), apply(app), status(app), cancel(app), retry(app), accept(app), history(app))
	c.AddCommand(template(app), schedule(app))
	return c
}
