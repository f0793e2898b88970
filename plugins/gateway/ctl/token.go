package ctl

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/internal/command"
)

func token(app App) *cobra.Command {
	c := &cobra.Command{
		Use: "token", Short: "Say who may attach a volume",
		Long: "A volume is open to everyone who reaches the gateway until it has a token. From then on NBD clients ask for\n" +
			"the export NAME@TOKEN, and the token says who they are.",
		Example: "  ratchetctl volume token make demo host-7\n  ratchetctl volume token list demo",
	}
	c.AddCommand(tokenMake(app), tokenList(app), tokenRevoke(app), tokenOpen(app))
	return c
}

func tokenMake(app App) *cobra.Command {
	var readOnly bool
	c := &cobra.Command{
		Use: "make VOLUME IDENTITY", Short: "Give somebody a token, which is shown this once", Args: cobra.ExactArgs(2), ValidArgsFunction: command.Names(volumeNames).First(app),
		Long:    "Give somebody a token, which is shown this once. With the first token a volume is closed to clients without one,\nbut those that are connected already.",
		Example: "  ratchetctl volume token make demo host-7\n  ratchetctl volume token make demo backup --read-only",
		RunE: func(cmd *cobra.Command, args []string) error {
			var made api.MadeToken
			request := api.TokenRequest{Name: args[0], Identity: args[1], ReadOnly: readOnly}
			if err := app.Invoke(cmd.Context(), plugin, api.MethodMake, request, &made); err != nil {
				return err
			}
			return app.Print(made, []string{"IDENTITY", "EXPORT"}, [][]string{{args[1], made.Export}})
		},
	}
	c.Flags().BoolVar(&readOnly, "read-only", false, "let them read only")
	return c
}

func tokenList(app App) *cobra.Command {
	return &cobra.Command{
		Use: "list VOLUME", Aliases: []string{"ls"}, Short: "List who has a token", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(volumeNames).First(app),
		Example: "  ratchetctl volume token list demo",
		RunE: func(cmd *cobra.Command, args []string) error {
			var reply api.TokensReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodTokens, api.VolumeRequest{Name: args[0]}, &reply); err != nil {
				return err
			}
			return app.Print(reply, []string{"IDENTITY", "MAY", "SINCE"}, tokenRows(reply))
		},
	}
}

func tokenRows(r api.TokensReply) (rows [][]string) {
	listed := r.Writer == ""
	for _, k := range r.Tokens {
		rights := "read and write"
		switch {
		case k.ReadOnly:
			rights = "read"
		case r.Writer != "" && r.Writer != k.Identity:
			rights = "read, and write after a handover"
		}
		listed = listed || k.Identity == r.Writer
		rows = append(rows, []string{k.Identity, rights, k.Made.Format(time.RFC3339)})
	}
	if !listed {
		rows = append(rows, []string{r.Writer, "write (has no token)", ""})
	}
	switch {
	case r.Closed:
	case r.Writer == "":
		rows = append(rows, []string{"everyone", "read and write", ""})
	default:
		rows = append(rows, []string{"everyone", "read", ""})
	}
	return rows
}

func tokenRevoke(app App) *cobra.Command {
	return &cobra.Command{
		Use: "revoke VOLUME IDENTITY", Short: "Take a token back and cut its clients off", Args: cobra.ExactArgs(2), ValidArgsFunction: command.Names(volumeNames).First(app),
		Example: "  ratchetctl volume token revoke demo host-7",
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.Invoke(cmd.Context(), plugin, api.MethodRevoke, api.TokenRequest{Name: args[0], Identity: args[1]}, &struct{}{})
		},
	}
}

func tokenOpen(app App) *cobra.Command {
	return &cobra.Command{
		Use: "open VOLUME", Short: "Forget all tokens and let everyone in", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(volumeNames).First(app),
		Long: "Forget all tokens, and let everyone who reaches the gateway in and write, also when the volume was handed over.\n" +
			"Who writes now is not interrupted. The volume has to be up.",
		Example: "  ratchetctl volume token open demo",
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.Invoke(cmd.Context(), plugin, api.MethodOpen, api.VolumeRequest{Name: args[0]}, &struct{}{})
		},
	}
}

func handover(app App) *cobra.Command {
	return &cobra.Command{
		Use: "handover VOLUME FROM TO", Short: "Take the right to write from one client and give it to another", Args: cobra.ExactArgs(3), ValidArgsFunction: command.Names(volumeNames).First(app),
		Long: "Take the right to write from one identity and give it to another; both may stay connected and read. When this\n" +
			"returns, every write that FROM was told of is durable and no later one of FROM succeeds (it gets ESHUTDOWN).\n" +
			"It may be repeated: what has happened already stays as it is. Identities come from tokens.",
		Example: "  ratchetctl volume handover vm-17 host-a host-b",
		RunE: func(cmd *cobra.Command, args []string) error {
			var reply api.HandoverReply
			request := api.HandoverRequest{Name: args[0], From: args[1], To: args[2]}
			if err := app.Invoke(cmd.Context(), plugin, api.MethodHandover, request, &reply); err != nil {
				return err
			}
			return app.Print(reply, []string{"VOLUME", "WRITER", "EPOCH"}, [][]string{{args[0], reply.Writer, fmt.Sprint(reply.Epoch)}})
		},
	}
}

func writers(app App) *cobra.Command {
	return &cobra.Command{
		Use: "writers VOLUME", Short: "Show who wrote under which epoch, who is connected and who may write", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(volumeNames).First(app),
		Example: "  ratchetctl volume writers vm-17",
		RunE: func(cmd *cobra.Command, args []string) error {
			var reply api.WritersReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodWriters, api.VolumeRequest{Name: args[0]}, &reply); err != nil {
				return err
			}
			var rows [][]string
			for _, t := range reply.Terms {
				rows = append(rows, []string{fmt.Sprint(t.Epoch), counts(t.Writes), counts(t.Refused), "", ""})
			}
			connected := map[string]uint64{}
			for who, n := range reply.Connections {
				connected[who] = uint64(n)
			}
			if len(rows) > 0 {
				rows[len(rows)-1][3], rows[len(rows)-1][4] = counts(connected), cmp.Or(reply.Writer, "everyone")
			}
			return app.Print(reply, []string{"EPOCH", "WRITES", "REFUSED", "CONNECTED", "WRITER"}, rows)
		},
	}
}

// counts writes "host-a 12, host-b 3".
func counts(m map[string]uint64) string {
	var parts []string
	for _, who := range slices.Sorted(maps.Keys(m)) {
		name := who
		if name == "" {
			name = "(no token)"
		}
		parts = append(parts, fmt.Sprintf("%s %d", name, m[who]))
	}
	return strings.Join(parts, ", ")
}

func release(app App) *cobra.Command {
	return &cobra.Command{
		Use: "release NAME", Short: "Give the disk space of a volume back that is not configured any more", Args: cobra.ExactArgs(1),
		Long: "Give the disk space of a volume back that was taken out of the configuration by other means than volume\n" +
			"delete, or on the disk that a volume had before it was given another one. What was not uploaded is lost.",
		Example: "  ratchetctl volume release scratch",
		RunE: func(cmd *cobra.Command, args []string) error {
			var reply api.ReleaseReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodRelease, api.ReleaseRequest{Name: args[0]}, &reply); err != nil {
				return err
			}
			if reply.Disk == "" {
				return fmt.Errorf("no disk has space of a volume %s", args[0])
			}
			return app.Print(reply, []string{"VOLUME", "DISK", "FREED"}, [][]string{{args[0], reply.Disk, size(reply.Bytes)}})
		},
	}
}
