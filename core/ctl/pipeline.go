package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/pipeline"
)

func (a *App) pipelineCommand() *cobra.Command {
	return group("pipeline", "Look at work that runs in stages: uploads, read-ahead, transfers", "", "  ratchetctl pipeline show", a.pipelineShow())
}

func (a *App) pipelineShow() *cobra.Command {
	return &cobra.Command{
		Use: "show [PLUGIN]", Short: "Show what each stage is granted, what it does and what waits for it",
		Long: "Show the pipelines of all plugins that have any, or of one.\n\n" +
			"WORKERS is what a stage is granted; what others leave it takes as well. RUNNING is calls at once and how many\n" +
			"may be, QUEUE how many items stand before the stage. BUSY is the mean time of a call, WAITED that of an item\n" +
			"in the queue.",
		Example: "  ratchetctl pipeline show\n  ratchetctl pipeline show gateway -o json",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: a.completePlugin,
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := a.plugins(cmd.Context())
			if err != nil {
				return err
			}
			all := map[string]pipeline.Snapshot{}
			var order []string
			var errs []error
			for _, p := range reply.GetPlugins() {
				if len(args) > 0 && p.GetName() != args[0] || !hasPipelines(p) {
					continue
				}
				s, err := a.pipelines(cmd.Context(), p.GetName())
				if err != nil {
					errs = append(errs, fmt.Errorf("pipelines of %s: %w", p.GetName(), err))
					continue
				}
				all[p.GetName()] = s
				order = append(order, p.GetName())
			}
			if len(args) > 0 && len(order) == 0 && len(errs) == 0 {
				return fmt.Errorf("plugin %q runs no pipelines, or is not on this box; see: ratchetctl plugin list", args[0])
			}
			return errors.Join(append(errs, a.show(all, func(w io.Writer) {
				for i, name := range order {
					if i > 0 {
						fmt.Fprintln(w)
					}
					pipelineTable(w, name, all[name])
				}
			}))...)
		},
	}
}

func hasPipelines(p *apipb.Plugin) bool {
	for _, m := range p.GetMethods() {
		if m.GetName() == pipeline.MethodShow {
			return true
		}
	}
	return false
}

func (a *App) pipelines(ctx context.Context, plugin string) (s pipeline.Snapshot, err error) {
	return s, a.Invoke(ctx, plugin, pipeline.MethodShow, struct{}{}, &s)
}

func pipelineTable(w io.Writer, plugin string, s pipeline.Snapshot) {
	fmt.Fprintf(w, "%s  %d of %d workers busy  %s in flight  bandwidth %s\n", clean(plugin), s.Busy, s.Workers,
		of(s.Held, s.Memory), perSecond(s.Bandwidth))
	Row(w, "PIPELINE", "STAGE", "WORKERS", "RUNNING", "QUEUE", "ITEMS", "BYTES", "RATE", "BUSY", "WAITED")
	for _, p := range s.Pipelines {
		name := p.Name
		if p.Draining {
			name += " (draining)"
		}
		for _, st := range p.Stages {
			workers, queue := "waits", "-"
			if !st.Waits {
				workers = fmt.Sprintf("%.2f", st.Granted)
			}
			if st.Queue > 0 {
				queue = fmt.Sprintf("%d/%d", st.Queued, st.Queue)
			}
			running := fmt.Sprint(st.Running)
			if st.Limit > 0 {
				running += fmt.Sprintf("/%d", st.Limit)
			}
			Row(w, name, st.Name, workers, running, queue, st.Items, Bytes(st.Bytes), fmt.Sprintf("%.1f/s", st.Rate),
				each(st.Busy, st.Items), each(st.Waited, st.Items))
		}
	}
}

// each is the mean time of an item.
func each(all time.Duration, items uint64) string {
	if items == 0 {
		return "-"
	}
	switch mean := all / time.Duration(items); {
	case mean > time.Second:
		return mean.Round(100 * time.Millisecond).String()
	case mean > time.Millisecond:
		return mean.Round(100 * time.Microsecond).String()
	default:
		return mean.Round(time.Microsecond).String()
	}
}

func of(n, limit int64) string {
	if limit == 0 {
		return Bytes(uint64(max(0, n)))
	}
	return Bytes(uint64(max(0, n))) + " of " + Bytes(uint64(limit))
}

func perSecond(n int64) string {
	if n == 0 {
		return "unlimited"
	}
	return Bytes(uint64(n)) + "/s"
}
