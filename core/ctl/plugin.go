package ctl

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

func (a *App) pluginCommand() *cobra.Command {
	return group("plugin", "List, inspect and restart plugins", "", "  ratchetctl plugin list\n  ratchetctl plugin restart gateway",
		a.pluginList(), a.pluginShow(), a.pluginRestart(), a.pluginLogs())
}

func (a *App) pluginList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the plugins and how they are", Example: "  ratchetctl plugin list\n  ratchetctl plugin list -o yaml",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := a.plugins(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(reply, func(w io.Writer) { pluginTable(w, reply.GetPlugins()) })
		},
	}
}

func (a *App) plugins(ctx context.Context) (*apipb.ListPluginsReply, error) {
	c, err := a.Client()
	if err != nil {
		return nil, err
	}
	return c.Plugins.List(ctx, &apipb.ListPluginsRequest{})
}

func pluginTable(w io.Writer, plugins []*apipb.Plugin) {
	Row(w, "PLUGIN", "STATE", "GEN", "SINCE", "RESTARTS", "MEM/LIMIT", "HEALTH")
	for _, p := range plugins {
		memory := Bytes(p.GetMemory())
		if p.GetMemoryLimit() > 0 {
			memory += "/" + Bytes(p.GetMemoryLimit())
		}
		since := "-"
		if p.GetSinceUnixMs() > 0 {
			since = ago(time.Since(time.UnixMilli(p.GetSinceUnixMs())))
		}
		Row(w, p.GetName(), p.GetState(), p.GetGeneration(), since, p.GetRestarts(), memory,
			strings.TrimSpace(p.GetHealth()+" "+p.GetMessage()))
	}
}

func (a *App) pluginShow() *cobra.Command {
	return &cobra.Command{
		Use: "show PLUGIN", Short: "Show what a plugin reports: tables, gauges, jobs and methods",
		Example: "  ratchetctl plugin show gateway",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completePlugin,
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := a.plugins(cmd.Context())
			if err != nil {
				return err
			}
			for _, p := range reply.GetPlugins() {
				if p.GetName() == args[0] {
					return a.show(p, func(w io.Writer) { pluginDetail(w, p) })
				}
			}
			return fmt.Errorf("there is no plugin %q on this box; see: ratchetctl plugin list", args[0])
		},
	}
}

// reported writes a table of a plugin; its columns are the plugin's.
func reported(w io.Writer, t *pluginpb.Table) {
	columns := make([]any, len(t.GetColumns()))
	for i, c := range t.GetColumns() {
		columns[i] = strings.ToUpper(c)
	}
	Row(w, columns...)
	for _, r := range t.GetRows() {
		Row(w, cells(r.GetCells())...)
	}
}

func pluginDetail(w io.Writer, p *apipb.Plugin) {
	pluginTable(w, []*apipb.Plugin{p})
	for _, t := range p.GetTables() {
		fmt.Fprintf(w, "\n%s\n", clean(t.GetName()))
		reported(w, t)
	}
	if len(p.GetGauges()) > 0 {
		fmt.Fprintln(w)
		Row(w, "GAUGE", "LABELS", "VALUE")
		for _, g := range p.GetGauges() {
			labels := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(g.GetLabels()), "map["), "]") // fmt sorts the keys
			Row(w, g.GetName(), labels, fmt.Sprintf("%.15g", g.GetValue()))
		}
	}
	for _, j := range p.GetJobs() {
		fmt.Fprintf(w, "\njob %s\n", jobLine(j.GetName(), j.GetDone(), j.GetTotal(), j.GetUnit()))
	}
	if len(p.GetMethods()) > 0 {
		fmt.Fprintln(w)
		Row(w, "METHOD", "CHANGES", "SUMMARY")
		for _, m := range p.GetMethods() {
			changes := "yes"
			if m.GetReadOnly() {
				changes = "no"
			}
			Row(w, m.GetName(), changes, m.GetSummary())
		}
	}
}

func (a *App) pluginRestart() *cobra.Command {
	var kill bool
	cmd := &cobra.Command{
		Use: "restart PLUGIN", Short: "Drain a plugin and start it again", Example: "  ratchetctl plugin restart gateway",
		Long: "Drain a plugin and start it again. With --kill its process is ended at once, as a crash would end it:\n" +
			"for one that does not answer. What the plugin has promised its clients holds either way.",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completePlugin,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			if _, err := c.Plugins.Restart(cmd.Context(), &apipb.RestartRequest{Plugin: args[0], Kill: kill}); err != nil {
				return err
			}
			a.say("plugin %s restarted", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&kill, "kill", false, "end the process at once")
	return cmd
}

func (a *App) pluginLogs() *cobra.Command {
	var request apipb.LogsRequest
	cmd := &cobra.Command{
		Use: "logs PLUGIN", Short: "Show a plugin's log",
		Long:    "Show a plugin's log. With -o json the lines are shown as the plugin wrote them.",
		Example: "  ratchetctl plugin logs gateway --tail 20\n  ratchetctl plugin logs gateway -f",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completePlugin,
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Plugin = args[0]
			return a.showLog(cmd.Context(), &request)
		},
	}
	cmd.Flags().BoolVarP(&request.Follow, "follow", "f", false, "go on with new lines until interrupted")
	cmd.Flags().Uint32Var(&request.Tail, "tail", 0, "how many lines from the past (default all that are kept)")
	return cmd
}

// showLog prints the lines of a log as they come.
func (a *App) showLog(ctx context.Context, request *apipb.LogsRequest) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	stream, err := c.Plugins.Logs(ctx, request)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }() // says again what stream.Err says
	for stream.Receive() {
		if _, err := fmt.Fprintln(a.Out, logLine(stream.Msg(), a.output != "table")); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil // the operator has seen enough
	}
	return stream.Err()
}

// completeWithin is how long a shell waits for the box to say what there is.
const completeWithin = time.Second

// completePlugin asks the box; a shell that waits gets an answer soon or none.
func (a *App) completePlugin(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
	defer cancel()
	reply, err := a.plugins(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, p := range reply.GetPlugins() {
		names = append(names, p.GetName()+"\t"+p.GetSummary())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
