package ctl

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/internal/command"
)

func stats(app App) *cobra.Command {
	return &cobra.Command{
		Use: "stats NAME", Short: "Show how many requests a volume answered, and how fast", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(volumeNames).First(app),
		Long: "Show what clients asked of a volume since the gateway's start: requests, bytes and latencies inside the\n" +
			"gateway, as upper bounds. The histograms are in the metrics, as ratchet_plugin_volume_request_seconds.",
		Example: "  ratchetctl volume stats demo",
		RunE: func(cmd *cobra.Command, args []string) error {
			var s api.Stats
			if err := app.Invoke(cmd.Context(), plugin, api.MethodStats, api.VolumeRequest{Name: args[0]}, &s); err != nil {
				return err
			}
			var rows [][]string
			for _, c := range s.Commands {
				rows = append(rows, []string{
					c.Name, fmt.Sprint(c.Ops), size(c.Bytes), fmt.Sprint(c.Errors), micros(c.MeanUS), micros(c.P50US), micros(c.P99US), micros(c.P999US),
				})
			}
			return app.Print(s, []string{"REQUEST", "COUNT", "BYTES", "ERRORS", "MEAN", "P50", "P99", "P99.9"}, rows)
		},
	}
}

func micros(n uint64) string {
	if n == 0 {
		return "-"
	}
	return (time.Duration(n) * time.Microsecond).String()
}

func evict(app App) *cobra.Command {
	var bytes string
	c := &cobra.Command{
		Use: "evict NAME", Short: "Forget local copies of what the store holds", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(volumeNames).First(app),
		Long: "Forget local copies of data that the store holds, oldest first. What is not uploaded stays. Reads of what\n" +
			"was forgotten come from the store. The gateway does this by itself when it needs space.",
		Example: "  ratchetctl volume evict demo\n  ratchetctl volume evict demo --bytes 10GiB",
		RunE: func(cmd *cobra.Command, args []string) error {
			request := api.EvictRequest{Name: args[0]}
			if bytes != "" {
				n, err := parseSize(bytes)
				if err != nil {
					return app.Usage("--bytes: %w", err)
				}
				request.Bytes = uint64(n)
			}
			var reply api.EvictReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodEvict, request, &reply); err != nil {
				return err
			}
			return app.Print(reply, []string{"VOLUME", "EVICTED", "CACHED"}, [][]string{{args[0], size(reply.Bytes), size(reply.Volume.CachedBytes)}})
		},
	}
	c.Flags().StringVar(&bytes, "bytes", "", "how much at most, as 10GiB; default: all")
	return c
}
