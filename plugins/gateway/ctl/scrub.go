package ctl

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/internal/command"
)

// scrubLook is how often a pass is looked at that somebody waits for.
const scrubLook = 500 * time.Millisecond

func scrub(app App) *cobra.Command {
	var rate string
	var wait bool
	c := &cobra.Command{
		Use: "scrub NAME", Short: "Read the local part of a volume through and check every checksum", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(volumeNames).First(app),
		Long: "Read the volume's part of the local disk through, past all caches, and check every checksum. The gateway does\n" +
			"this by itself (plugins.gateway.scrub). A damaged block is fetched again from the store; one that is not in\n" +
			"the store yet is reported, and reads of it fail. Volumes of one disk are read one after the other.",
		Example: "  ratchetctl volume scrub demo --rate 200MiB --wait",
		RunE: func(cmd *cobra.Command, args []string) error {
			request := api.ScrubRequest{Name: args[0]}
			if rate != "" {
				n, err := parseSize(rate)
				if err != nil {
					return app.Usage("--rate: %w", err)
				}
				request.Rate = uint64(n)
			}
			var v api.Volume
			if err := app.Invoke(cmd.Context(), plugin, api.MethodScrub, request, &v); err != nil {
				return err
			}
			if !wait {
				return app.Print(v, []string{"VOLUME", "SCRUB"}, [][]string{{args[0], "begins; see ratchetctl volume show " + args[0]}})
			}
			s, err := scrubbed(cmd.Context(), app, args[0], v.Scrub.Passes)
			if err != nil {
				return err
			}
			return app.Print(s, []string{"VOLUME", "READ", "REPAIRED", "LOST"},
				[][]string{{args[0], size(s.Bytes), fmt.Sprint(s.Repaired - v.Scrub.Repaired), fmt.Sprint(s.Lost - v.Scrub.Lost)}})
		},
	}
	c.Flags().StringVar(&rate, "rate", "", "bytes a second, as 200MiB; default: as configured, 16MiB")
	c.Flags().BoolVar(&wait, "wait", false, "return when the pass is over, with what it found")
	return c
}

// scrubbed waits for a pass more than there were.
func scrubbed(ctx context.Context, app App, name string, passes uint64) (api.Scrub, error) {
	tick := time.NewTicker(scrubLook)
	defer tick.Stop()
	for {
		var v api.Volume
		if err := app.Invoke(ctx, plugin, api.MethodShow, api.VolumeRequest{Name: name}, &v); err != nil {
			return api.Scrub{}, err
		}
		switch {
		case v.Scrub.Passes > passes:
			v.Scrub.Running, v.Scrub.Done = false, 0 // this pass is over, whatever has begun since
			return v.Scrub, nil
		case v.Scrub.Passes < passes, !v.Scrub.Running: // another process, or it gave up
			return v.Scrub, fmt.Errorf("volume %s is %s and the pass ended early: see ratchetctl plugin logs gateway", name, v.State)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return v.Scrub, ctx.Err()
		}
	}
}

func scrubText(s api.Scrub) string {
	text := ""
	switch {
	case s.Running:
		text = fmt.Sprintf("under way, %s read", size(s.Done))
	case !s.Last.IsZero():
		text = "last " + s.Last.Format(time.RFC3339)
	default:
		return ""
	}
	return fmt.Sprintf("%s; since start %d passes, %d blocks repaired, %d lost", text, s.Passes, s.Repaired, s.Lost)
}
