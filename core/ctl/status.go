package ctl

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/api/apipb"
)

func (a *App) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show the verdict, the plugins and the network of the box",
		Long:    "Show the verdict, the plugins and the network of the box.\n\nThe exit code is 4 when the hardware is not released.",
		Example: "  ratchetctl status\n  ratchetctl status -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			s, err := c.System.Status(cmd.Context(), &apipb.StatusRequest{})
			if err != nil {
				return err
			}
			if err := a.show(s, func(w io.Writer) { statusTable(w, s) }); err != nil {
				return err
			}
			return released(s.GetVerdict())
		},
	}
}

func statusTable(w io.Writer, s *apipb.StatusReply) {
	image := s.GetVersion()
	if s.GetSlot() != "" {
		image += " (slot " + s.GetSlot() + ")"
	}
	if s.GetDevelopment() {
		image += " development"
	}
	fmt.Fprintf(w, "%s  image %s  up %s  %s  counter %d (expected %d)\n", clean(s.GetHostname()), image,
		ago(time.Duration(s.GetUptimeMs())*time.Millisecond), decision(s.GetVerdict()), s.GetCounter(), s.GetExpected())
	verdictLines(w, s.GetVerdict())
	if n := s.GetNetwork(); n != nil {
		fmt.Fprintf(w, "network  %s %s %s\n", n.GetNic(), clean(n.GetState()), strings.Join(n.GetAddresses(), " "))
	}
	if c := s.GetClock(); c != nil {
		state := "not synchronised"
		if c.GetSynchronised() {
			state = "synchronised"
		}
		fmt.Fprintf(w, "clock  %s, %s\n", clean(c.GetSource()), state)
	}
	if ms := s.GetConfig().GetRevertInMs(); ms > 0 {
		fmt.Fprintf(w, "configuration goes back in %s unless confirmed: ratchetctl config confirm\n", ago(time.Duration(ms)*time.Millisecond))
	}
	fmt.Fprintln(w)
	pluginTable(w, s.GetPlugins())
	for _, p := range s.GetPlugins() {
		alerts(w, p)
	}
	for _, p := range s.GetPlugins() {
		for _, j := range p.GetJobs() {
			fmt.Fprintf(w, "%s: %s\n", p.GetName(), jobLine(j.GetName(), j.GetDone(), j.GetTotal(), j.GetUnit()))
		}
	}
}

// alertTable is the name under which a plugin reports what needs somebody's attention, most urgent first.
const alertTable = "alerts"

func alerts(w io.Writer, p *apipb.Plugin) {
	for _, t := range p.GetTables() {
		if t.GetName() != alertTable || len(t.GetRows()) == 0 {
			continue
		}
		fmt.Fprintf(w, "\nALERTS of %s\n", p.GetName())
		reported(w, t)
	}
}

// released is the exit code that a verdict gives to a command which shows it. A workstation
// has no verdict and keeps nothing out of use.
func released(v *apipb.Verdict) error {
	if d := v.GetDecision(); d != "" && d != "released" {
		return &exit{code: ExitNotReleased}
	}
	return nil
}

func decision(v *apipb.Verdict) string {
	if v.GetDecision() == "" {
		return "NO VERDICT (workstation)"
	}
	return strings.ToUpper(v.GetDecision())
}

// verdictLines says why and what next, when there is something to do.
func verdictLines(w io.Writer, v *apipb.Verdict) {
	if released(v) == nil {
		return
	}
	fmt.Fprintf(w, "why   %s\n", clean(v.GetReason()))
	if v.GetNext() != "" {
		fmt.Fprintf(w, "next  %s\n", clean(v.GetNext()))
	}
}

func jobLine(name string, done, total uint64, unit string) string {
	amount := func(n uint64) string {
		if unit == "bytes" {
			return Bytes(n)
		}
		return fmt.Sprint(n)
	}
	line := fmt.Sprintf("%s %s", clean(name), amount(done))
	if total > 0 {
		line += fmt.Sprintf(" of %s (%d %%)", amount(total), uint64(float64(done)/float64(total)*100))
	}
	if unit != "bytes" && unit != "" {
		line += " " + clean(unit)
	}
	return line
}
