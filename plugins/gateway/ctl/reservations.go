package ctl

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/internal/command"
)

// companion is the plugin that has the kernel's targets.
const companion = "target"

func reservations(app App) *cobra.Command {
	c := &cobra.Command{
		Use: "reservations", Short: "Persistent reservations of iSCSI initiators",
		Example: "  ratchetctl volume reservations clear vm-images --yes",
	}
	c.AddCommand(reservationsClear(app))
	return c
}

func reservationsClear(app App) *cobra.Command {
	var yes, force bool
	c := &cobra.Command{
		Use: "clear NAME", Short: "Give up reservations that cannot be read, so that the disk is exported again", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(volumeNames).First(app),
		Long: "Remove the file in which the kernel keeps the persistent reservations of a volume's iSCSI disk. A power cut while\n" +
			"it is written leaves one that is not complete, and the disk is not exported without what its initiators rely on.\n" +
			"Stop all of them first, then say --yes: they reserve anew. The disk is exported at once.\n\n" +
			"Reservations that can be read are given up with --force only, and never while the kernel has the disk.",
		Example: "  ratchetctl volume reservations clear vm-images --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return app.Usage("stop all initiators of the disk of %s first: they lose their reservations; then say --yes", args[0])
			}
			var gone api.ClearedReservations
			if err := app.Invoke(cmd.Context(), companion, api.MethodClear, api.ClearRequest{Name: args[0], Force: force}, &gone); err != nil {
				return err
			}
			return app.Print(gone, []string{"VOLUME", "REMOVED", "HELD"},
				[][]string{{args[0], gone.File, cmp.Or(gone.Problem, fmt.Sprintf("%d registrations", gone.Registrations))}})
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "all initiators of the disk are stopped")
	c.Flags().BoolVar(&force, "force", false, "also reservations that can be read")
	return c
}
