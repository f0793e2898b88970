package main

import (
	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/qemu/soak"
)

func soakCommand() *cobra.Command {
	var o soak.Options
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "Interrupt updates and attempts, thousands of times in the engines and some in virtual machines",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.OutOrStdout()
			return soak.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.System, "system", "", "the system to soak (default secure-counter)")
	f.IntVar(&o.Interruptions, "interruptions", 0, "interruptions of the engines (default 10000; negative for none)")
	f.IntVar(&o.Machines, "machines", 0, "interruptions in virtual machines (default 24; negative for none)")
	f.Uint64Var(&o.Seed, "seed", 0, "seed (default 1); the same one does the same to the engines")
	f.StringVar(&o.Dir, "dir", "", "folder for machines and logs (default build/soak)")
	return cmd
}
