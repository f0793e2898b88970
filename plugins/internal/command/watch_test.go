package command

import (
	"context"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestWatch: a command looks once; with -w it looks again until it is interrupted, which is no error.
func TestWatch(t *testing.T) {
	for _, tt := range []struct {
		args  string
		looks int
		shown string
	}{
		{"", 1, "look\n"},
		{"-w --every 1ms", 3, "look\n\nlook\n\nlook\n"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var out strings.Builder
		looks := 0
		c := Watch(&cobra.Command{Use: "show"}, func(cmd *cobra.Command) error {
			if looks++; looks == 3 {
				cancel()
			}
			cmd.Println("look")
			return nil
		})
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs(strings.Fields(tt.args))
		if err := c.ExecuteContext(ctx); err != nil {
			t.Errorf("%q: %v", tt.args, err)
		}
		if looks != tt.looks || out.String() != tt.shown {
			t.Errorf("%q: looked %d times and showed %q", tt.args, looks, out.String())
		}
	}
}
