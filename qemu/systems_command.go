package main

import (
	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/qemu/systems"
)

func systemsCommand() *cobra.Command {
	var o systems.Options
	cmd := &cobra.Command{
		Use:   "systems",
		Short: "Run the end-to-end tests of the fifteen systems and print the table",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.OutOrStdout()
			return systems.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Only, "only", "", "comma-separated names; all if empty")
	f.StringVar(&o.LogDir, "logs", "", "folder for each row's full output (default build/systems)")
	f.DurationVar(&o.Timeout, "timeout", 0, "time limit of one row (default 35m)")
	return cmd
}
