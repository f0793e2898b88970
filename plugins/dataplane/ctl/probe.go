package ctl

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/dataplane/api"
	"github.com/ratchetos/ratchet/plugins/internal/command"
)

// probe is `ratchetctl dataplane probe`.
func probe(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "probe", Short: "Load every BPF program once, to see that the box's kernel takes it", Args: cobra.NoArgs,
		Long: `Load every BPF program of the dataplane once and let go of it again. The kernel's own verifier answers; what is
attached is not touched.`,
		Example: "  ratchetctl dataplane probe\n  ratchetctl dataplane probe -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var reply api.ProbeReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodProbe, struct{}{}, &reply); err != nil {
				return err
			}
			var rows [][]string
			refused := 0
			for _, p := range reply.Programs {
				verdict := "loads"
				if p.Problem != "" {
					verdict = p.Problem
					refused++
				}
				rows = append(rows, []string{p.Object, p.Name, p.Type, fmt.Sprintf("%d ms", p.LoadMS), verdict})
			}
			if err := app.Print(reply, []string{"OBJECT", "PROGRAM", "TYPE", "LOAD", "KERNEL " + reply.Kernel}, rows); err != nil {
				return err
			}
			if refused > 0 {
				return fmt.Errorf("kernel %s refuses %d of %d programs", reply.Kernel, refused, len(reply.Programs))
			}
			return nil
		},
	}
}
