package ctl

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/api/apipb"
)

func (a *App) counterCommand() *cobra.Command {
	return group("counter", "Look at the secure counter", "", "  ratchetctl counter show",
		&cobra.Command{
			Use: "show", Short: "Show the counter, the verdict and the open attempts",
			Long: "Show the counter, the verdict and the open attempts. Every update attempt moves the counter;\n" +
				"attempts stay open until the next boot has read back what they did.\n\nThe exit code is 4 when the hardware is not released.",
			Example: "  ratchetctl counter show\n  ratchetctl counter show -o json",
			Args:    cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := a.Client()
				if err != nil {
					return err
				}
				reply, err := c.Counter.Show(cmd.Context(), &apipb.ShowCounterRequest{})
				if err != nil {
					return err
				}
				if err := a.show(reply, func(w io.Writer) { counterTable(w, reply) }); err != nil {
					return err
				}
				return released(reply.GetVerdict())
			},
		})
}

func counterTable(w io.Writer, r *apipb.ShowCounterReply) {
	if !r.GetTpm() {
		if r.GetVerdict().GetDecision() == "" {
			fmt.Fprintln(w, "this machine keeps no counter (tpm: none)")
			return
		}
		fmt.Fprintf(w, "%s  no counter: the TPM cannot be used\n", decision(r.GetVerdict()))
		verdictLines(w, r.GetVerdict())
		return
	}
	fmt.Fprintf(w, "%s  counter %d  expected %d  open attempts %d\n",
		decision(r.GetVerdict()), r.GetCounter(), r.GetExpected(), r.GetOpen())
	verdictLines(w, r.GetVerdict())
	if m := r.GetMeasured(); m != nil {
		secure := "off"
		if m.GetSecureBoot() {
			secure = "on"
		}
		fmt.Fprintf(w, "Secure Boot %s  PCR 11 %s  %d TPM commands at boot\n", secure, m.GetPcr11(), m.GetCommands())
	}
	if len(r.GetAttempts()) == 0 {
		return
	}
	fmt.Fprintln(w)
	Row(w, "ATTEMPT", "KIND", "TARGET", "FROM", "TO", "RESULT")
	for _, t := range r.GetAttempts() {
		Row(w, t.GetNumber(), t.GetKind(), t.GetTarget(), short(t.GetFrom()), short(t.GetTo()), t.GetResult())
	}
}

// short is as much of a digest as a person compares.
func short(digest string) string { return digest[:min(len(digest), 12)] }
