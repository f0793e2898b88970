package command

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// pause is the time between two looks, but that --every says otherwise.
const pause = time.Second

// Watch makes a command of one look into one that, with -w, looks again until it is interrupted.
func Watch(c *cobra.Command, look func(cmd *cobra.Command) error) *cobra.Command {
	watch := c.Flags().BoolP("watch", "w", false, "show it again and again until interrupted")
	every := c.Flags().Duration("every", pause, "with -w, the time between two looks")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		for {
			if err := look(cmd); err != nil || !*watch {
				return err
			}
			t := time.NewTimer(max(*every, pause/10))
			select {
			case <-cmd.Context().Done():
				t.Stop()
				return nil
			case <-t.C:
			}
			// A blank line, and not a cleared screen: it can be piped and scrolled.
			if _, err := fmt.Fprintln(cmd.OutOrStdout()); err != nil {
				return err
			}
		}
	}
	return c
}
