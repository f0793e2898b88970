package command

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// completeWithin is how long a shell waits for the box to say what there is.
const completeWithin = time.Second

// Names lists what can be written in a place, each with a word about it behind a tab.
type Names func(ctx context.Context, app App) ([]string, error)

// First completes a command's first argument.
func (n Names) First(app App) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return n.Flag(app)(cmd, args, typed)
	}
}

// Flag completes the value of a flag.
func (n Names) Flag(app App) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
		defer cancel()
		list, err := n(ctx, app)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	}
}
