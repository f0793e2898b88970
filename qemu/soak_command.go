package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/qemu/soak"
)

func soakCommand() *cobra.Command {
	var o soak.Options
	cmd := &cobra.Command{
		Use:     "soak",
		Short:   "Interrupt a system until it is believed: thousands of times in its engines and processes, and some in virtual machines",
		Args:    cobra.NoArgs,
		Example: "  go run ./qemu soak --system cached-volume --budget 2h\n  go run ./qemu soak --system secure-counter --interruptions 1000 --machines -1",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.OutOrStdout()
			return soak.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.System, "system", "", "the system to soak: "+strings.Join(soak.Systems(), " or ")+" (default secure-counter)")
	f.IntVar(&o.Interruptions, "interruptions", 0, "interruptions of the engines and of processes (default 10000; negative for none)")
	f.IntVar(&o.Machines, "machines", 0, "interruptions in virtual machines (default 24 or 30, by system; negative for none)")
	f.Uint64Var(&o.Seed, "seed", 0, "seed (default 1); the same one does the same to the engines")
	f.DurationVar(&o.Budget, "budget", 0, "begin nothing more after this long (default: do all of it)")
	f.StringVar(&o.Dir, "dir", "", "folder for machines and logs (default build/soak)")
	return cmd
}
