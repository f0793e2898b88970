package ctl

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/live"
	"github.com/ratchetos/ratchet/plugins/migration/api"
)

// schedule is `ratchetctl migrate schedule`.
func schedule(app App) *cobra.Command {
	c := &cobra.Command{Use: "schedule", Short: "When moves happen, and why"}
	c.AddCommand(scheduleShow(app))
	return c
}

func scheduleShow(app App) *cobra.Command {
	var request api.ScheduleRequest
	c := &cobra.Command{
		Use: "show", Short: "Draw the forecast of each link, its band and the slots booked, and explain them", Args: cobra.NoArgs,
		Example: "  ratchetctl migrate schedule show\n  ratchetctl migrate schedule show --link uplink -w --every 1m",
	}
	c.Flags().StringVar(&request.Link, "link", "", "this link only")
	c.Flags().IntVar(&request.Width, "width", 0, "columns of the drawing (default: the terminal's)")
	return live.Command(c, func(cmd *cobra.Command) error {
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
		return app.Print(reply, []string{"# load of the links, forecast, and what is booked"}, lines)
	})
}

// terminalWidth is 80 where there is no terminal.
func terminalWidth() int {
	if size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		return int(size.Col)
	}
	return 80
}
