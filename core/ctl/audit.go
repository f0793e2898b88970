package ctl

import (
	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
)

func (a *App) auditCommand() *cobra.Command {
	request := apipb.LogsRequest{Plugin: api.AuditTrail}
	cmd := &cobra.Command{
		Use: "audit", Short: "Show who changed what, and what was refused",
		Long: "Show who changed what on the box, and what was refused: one line for each call, the newest last. It needs the\n" +
			"role operator. With -o json the lines are shown as the box keeps them.",
		Example: "  ratchetctl audit\n  ratchetctl audit --tail 0 -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.showLog(cmd.Context(), &request) },
	}
	cmd.Flags().Uint32Var(&request.Tail, "tail", 100, "how many lines; 0 shows all that are kept")
	return cmd
}
