package ctl

import (
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/command"
	"github.com/ratchetos/ratchet/plugins/migration/api"
)

// schedule is `ratchetctl migrate schedule`.
func schedule(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "schedule", Short: "When moves happen, and why",
		Example: "  ratchetctl migrate schedule show --link uplink -w",
	}
	c.AddCommand(scheduleShow(app), scheduleImport(app))
	return c
}

func scheduleShow(app command.App) *cobra.Command {
	var request api.ScheduleRequest
	c := &cobra.Command{
		Use: "show", Short: "Draw the forecast of each link and watched host, its band and the slots booked, and explain them", Args: cobra.NoArgs,
		Example: "  ratchetctl migrate schedule show\n  ratchetctl migrate schedule show --link uplink -w --every 1m\n  ratchetctl migrate schedule show --link rack1/memory",
	}
	c.Flags().StringVar(&request.Link, "link", "", "this link only, or HOST/cpu or HOST/memory")
	c.Flags().IntVar(&request.Width, "width", 0, "columns of the drawing (default: the terminal's)")
	return command.Watch(c, func(cmd *cobra.Command) error {
		if request.Width == 0 {
			request.Width = terminalWidth()
		}
		var reply api.ScheduleReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodSchedule, request, &reply); err != nil {
			return err
		}
		var lines [][]string
		for line := range strings.Lines(reply.Text) {
			lines = append(lines, []string{strings.TrimRight(line, "\n")})
		}
		return app.Print(reply, []string{"# load of links and hosts, forecast, and what is booked"}, lines)
	})
}

// terminalWidth is 80 where there is no terminal.
func terminalWidth() int {
	if size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		return int(size.Col)
	}
	return 80
}

func scheduleImport(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "import LINK|HOST/cpu|HOST/memory FILE", Short: "Replace the history of a link or a host by one from a CSV file", Args: cobra.ExactArgs(2),
		Long: `Replace the history of a link by the lines "time,bytes a second" of a file, so that its load can be forecast before the
box has watched it for days. For HOST/cpu the lines are "time,busy processors", for HOST/memory "time,bytes in use". Times are RFC 3339, seconds since 1970, or as 2026-01-02 03:04:05 (UTC).`,
		Example: "  ratchetctl migrate schedule import uplink uplink.csv\n  ratchetctl migrate schedule import rack1/cpu rack1-cpu.csv",
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readDocument(cmd, args[1], maxHistory)
			if err != nil {
				return err
			}
			var reply api.ImportReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodImport, api.ImportRequest{Link: args[0], CSV: string(text)}, &reply); err != nil {
				return err
			}
			return app.Print(reply, []string{"RESOURCE", "SAMPLES"}, [][]string{{args[0], strconv.Itoa(reply.Samples)}})
		},
	}
}

// maxHistory bounds a file of samples.
const maxHistory = 2 << 20
