package ctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/version"
)

func (a *App) powerCommand() *cobra.Command {
	action := func(use, short string, what apipb.PowerAction) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Example: "  ratchetctl power " + use,
			Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := a.Client()
				if err != nil {
					return err
				}
				if _, err := c.System.Power(cmd.Context(), &apipb.PowerRequest{Action: what}); err != nil {
					return err
				}
				a.say("the box stops its plugins and then ends: %s", use)
				return nil
			},
		}
	}
	return group("power", "Switch the box off or reboot it", "", "  ratchetctl power reboot",
		action("off", "Stop the plugins in order and switch off", apipb.PowerAction_POWER_ACTION_OFF),
		action("reboot", "Stop the plugins in order and reboot", apipb.PowerAction_POWER_ACTION_REBOOT))
}

func (a *App) versionCommand() *cobra.Command {
	var box bool
	cmd := &cobra.Command{
		Use: "version", Short: "Show the version of ratchetctl, or of the box",
		Example: "  ratchetctl version\n  ratchetctl version --box -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			own := version.Get()
			reply := &apipb.VersionReply{Version: own.Version, Commit: own.Commit, Go: own.Go}
			if box {
				c, err := a.Client()
				if err != nil {
					return err
				}
				if reply, err = c.System.Version(cmd.Context(), &apipb.VersionRequest{}); err != nil {
					return err
				}
			}
			return a.show(reply, func(w io.Writer) {
				fmt.Fprintln(w, strings.Join(strings.Fields(strings.Join(
					[]string{"ratchet", reply.GetVersion(), reply.GetCommit(), reply.GetGo(), reply.GetKernel()}, " ")), " "))
			})
		},
	}
	cmd.Flags().BoolVar(&box, "box", false, "ask the box")
	return cmd
}
