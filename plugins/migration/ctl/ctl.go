// Package ctl is the migration plugin's part of ratchetctl.
package ctl

import (
	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/internal/command"
)

const plugin = "migration"

// Command is `ratchetctl migrate`.
func Command(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "migrate", Short: "Move VMs between hypervisor hosts, also to another type",
		Long: `Move running VMs between the hosts of the configuration, and give them other processors, memory or device models
on the way. ` + "`plan`" + ` shows what would be done and what cannot be; ` + "`apply`" + ` does it; ` + "`status -w`" + ` shows how it goes on.`,
		Example: "  ratchetctl migrate plan web1 --to rack2\n  ratchetctl migrate apply web1 --to rack2\n  ratchetctl migrate status -w",
	}
	c.AddCommand(hosts(app), host(app), vms(app), show(app), types(app))
	c.AddCommand(planned(app), apply(app), status(app), cancel(app), retry(app), accept(app), history(app))
	c.AddCommand(template(app), schedule(app))
	return c
}
