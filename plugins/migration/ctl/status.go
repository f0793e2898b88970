package ctl

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/internal/command"
	"github.com/ratchetos/ratchet/plugins/migration/api"
)

// lookEvery is the pause between two looks at a move that is waited for.
const lookEvery = 500 * time.Millisecond

func status(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "status [MOVE]", Short: "Show moves that wait or are under way, with what is sent and when they end", Args: cobra.MaximumNArgs(1),
		Example:           "  ratchetctl migrate status -w\n  ratchetctl migrate status -o json",
		ValidArgsFunction: command.Names(moveIDs).First(app),
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		reply, err := moves(app, cmd, cmd.Flags().Arg(0))
		if err != nil {
			return err
		}
		var rows [][]string
		for _, m := range reply.Moves {
			rows = append(rows, []string{
				m.ID, m.VM, m.From + " to " + m.To, m.State, step(m), sent(m), rate(m.Bandwidth), rate(m.DirtyRate), ends(m), m.Problem,
			})
		}
		return app.Print(reply, []string{"MOVE", "VM", "WAY", "STATE", "STEP", "SENT", "RATE", "DIRTY", "ENDS", "PROBLEM"}, rows)
	})
}

func moves(app command.App, cmd *cobra.Command, id string) (reply api.MovesReply, err error) {
	err = app.Invoke(cmd.Context(), plugin, api.MethodMoves, api.MovesRequest{ID: id}, &reply)
	return reply, err
}

func cancel(app command.App) *cobra.Command {
	return order(app, api.MethodCancel, &cobra.Command{
		Use: "cancel MOVE", Short: "End a move that is not committed yet; the VM stays where it is, as it was",
		Example: "  ratchetctl migrate cancel m-7k2q5c",
	})
}

func retry(app command.App) *cobra.Command {
	return order(app, api.MethodRetry, &cobra.Command{
		Use: "retry MOVE", Short: "Let a move that is held go on, once what held it has been mended",
		Example: "  ratchetctl migrate retry m-7k2q5c",
	})
}

func accept(app command.App) *cobra.Command {
	return order(app, api.MethodAccept, &cobra.Command{
		Use: "accept MOVE", Short: "End a move that is held because the guest's agent does not answer at the target",
		Long: `End a move that is held after its commit: the operator has seen that the VM at the target is the right one and works,
although its agent does not answer. The source is ended then.`,
		Example: "  ratchetctl migrate accept m-7k2q5c",
	})
}

// order makes a command that says one thing about one move.
func order(app command.App, method string, c *cobra.Command) *cobra.Command {
	c.Args, c.ValidArgsFunction = cobra.ExactArgs(1), command.Names(moveIDs).First(app)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return app.Invoke(cmd.Context(), plugin, method, api.IDRequest{ID: args[0]}, &struct{}{})
	}
	return c
}

func history(app command.App) *cobra.Command {
	var last int
	c := &cobra.Command{
		Use: "history [MOVE]", Short: "Show moves that have ended", Args: cobra.MaximumNArgs(1),
		Example:           "  ratchetctl migrate history\n  ratchetctl migrate history --last 100 -o json",
		ValidArgsFunction: command.Names(endedIDs).First(app),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var reply api.MovesReply
			request := api.MovesRequest{Last: last, ID: cmd.Flags().Arg(0)}
			if err := app.Invoke(cmd.Context(), plugin, api.MethodHistory, request, &reply); err != nil {
				return err
			}
			var rows [][]string
			for _, m := range reply.Moves {
				rows = append(rows, []string{
					m.ID, m.VM, m.From + " to " + m.To, m.State, m.Ended.Format(time.RFC3339), m.Ended.Sub(m.Began).Round(time.Millisecond).String(),
					gap(m), size(m.Sent), m.Problem,
				})
			}
			return app.Print(reply, []string{"MOVE", "VM", "WAY", "STATE", "ENDED", "TOOK", "GAP", "SENT", "PROBLEM"}, rows)
		},
	}
	c.Flags().IntVar(&last, "last", 20, "how many")
	return c
}

// untilEnded waits for moves and says what became of those that failed.
func untilEnded(app command.App, cmd *cobra.Command, ids []string) error {
	var failed []string
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for len(ids) > 0 {
		select {
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		case <-t.C:
		}
		for _, id := range slices.Clone(ids) {
			reply, err := moves(app, cmd, id)
			if err != nil {
				return err
			}
			for _, m := range reply.Moves {
				held := m.State == api.StateHeld // it does not end by itself
				if m.Ended.IsZero() && !held {
					continue
				}
				ids = slices.DeleteFunc(ids, func(other string) bool { return other == id })
				if held {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s is held\n", m.ID, m.VM)
					failed = append(failed, m.VM+" waits for an operator: "+m.Problem)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s is %s after %s\n", m.ID, m.VM, m.State, m.Ended.Sub(m.Began).Round(time.Millisecond))
				if m.Problem != "" {
					failed = append(failed, m.VM+": "+m.Problem)
				}
			}
		}
	}
	if len(failed) > 0 {
		return errors.New(strings.Join(failed, "; "))
	}
	return nil
}

func step(m api.Move) string {
	if m.Steps == 0 {
		return m.Doing
	}
	return strings.TrimSpace(fmt.Sprintf("%d/%d %s", m.Step, m.Steps, m.Doing))
}

func sent(m api.Move) string {
	if m.Sent == 0 && m.Remaining == 0 {
		return ""
	}
	return size(m.Sent) + ", " + size(m.Remaining) + " left"
}

func ends(m api.Move) string {
	switch {
	case !m.Ended.IsZero():
		return "ended " + m.Ended.Format(time.TimeOnly)
	case !m.Begins.IsZero():
		return "begins " + m.Begins.Format(time.RFC3339)
	case m.Ends.IsZero():
		return ""
	}
	return m.Ends.Format(time.TimeOnly)
}

func gap(m api.Move) string {
	if m.Gap == 0 {
		return ""
	}
	return m.Gap.Round(time.Millisecond).String()
}

func rate(perSecond float64) string {
	if perSecond <= 0 {
		return ""
	}
	return size(uint64(perSecond)) + "/s"
}

// size writes bytes for people: three digits or so.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f /= 1024
		u++
	}
	if u == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, units[u])
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}
