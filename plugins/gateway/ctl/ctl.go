// Package ctl is the gateway's part of ratchetctl.
package ctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/internal/command"
)

// App is what ratchetctl offers to the gateway's commands.
type App interface {
	command.App
	// Section decodes a plugin's section of the configuration that the box runs.
	Section(ctx context.Context, plugin string, into any) error
	// Edit changes one thing in a plugin's section and has the box apply it, or only shows the result. op is add
	// (to the list at path), set or remove.
	Edit(ctx context.Context, plugin, op, path string, value any, preview bool) error
	// Try asks the box whether it would take the same Edit now, and changes nothing.
	Try(ctx context.Context, plugin, op, path string, value any) error
	// Usage makes an error one of the command line.
	Usage(format string, args ...any) error
	// Host is where the box is reached; "" on the box itself.
	Host() (string, error)
}

const plugin = "gateway"

// Command is `ratchetctl volume`.
func Command(app App) *cobra.Command {
	c := &cobra.Command{
		Use: "volume", Short: "Cached volumes: create, attach, resize, look after",
		Example: "  ratchetctl volume list\n  ratchetctl volume attach-info demo\n  ratchetctl volume resize demo 1TiB",
	}
	c.AddCommand(list(app), show(app), stats(app), create(app), resize(app), remove(app), attachInfo(app), flush(app), evict(app), scrub(app), token(app), handover(app), writers(app), release(app), reservations(app))
	return c
}

// volumeNames completes the name of a volume.
func volumeNames(ctx context.Context, app command.App) (names []string, err error) {
	var reply api.ListReply
	err = app.Invoke(ctx, plugin, api.MethodList, struct{}{}, &reply)
	for _, v := range reply.Volumes {
		names = append(names, v.Name+"\t"+v.State)
	}
	return names, err
}

func list(app App) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List volumes with what is cached and what is not uploaded yet", Args: cobra.NoArgs,
		Example: "  ratchetctl volume list\n  ratchetctl volume list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var reply api.ListReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodList, struct{}{}, &reply); err != nil {
				return err
			}
			var rows [][]string
			for _, v := range reply.Volumes {
				rows = append(rows, []string{v.Name, v.State, size(v.Size), size(v.DirtyBytes), size(v.CachedBytes), HitRatio(v), remote(v), v.Message})
			}
			return app.Print(reply, []string{"VOLUME", "STATE", "SIZE", "DIRTY", "CACHED", "HITS", "STORE", "MESSAGE"}, rows)
		},
	}
}

func show(app App) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show everything about one volume", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(volumeNames).First(app),
		Example: "  ratchetctl volume show demo",
		RunE: func(cmd *cobra.Command, args []string) error {
			var v api.Volume
			if err := app.Invoke(cmd.Context(), plugin, api.MethodShow, api.VolumeRequest{Name: args[0]}, &v); err != nil {
				return err
			}
			return app.Print(v, []string{"FIELD", "VALUE"}, fields(v))
		},
	}
}

func flush(app App) *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: "flush NAME", Short: "Upload everything written so far and wait for it", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(volumeNames).First(app),
		Example: "  ratchetctl volume flush demo --timeout 10m",
		RunE: func(cmd *cobra.Command, args []string) error {
			var v api.Volume
			request := api.FlushRequest{Name: args[0], TimeoutMS: timeout.Milliseconds()}
			if err := app.Invoke(cmd.Context(), plugin, api.MethodFlush, request, &v); err != nil {
				return err
			}
			return app.Print(v, []string{"VOLUME", "UPLOADED", "DIRTY"},
				[][]string{{v.Name, fmt.Sprintf("group %d", v.UploadedSeq), size(v.DirtyBytes)}})
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "give up waiting after this long; the upload goes on")
	return c
}

func fields(v api.Volume) [][]string {
	rows := [][]string{
		{"name", v.Name},
		{"state", v.State},
		{"message", v.Message},
		{"disk", v.Disk},
		{"size", size(v.Size)},
		{"encrypted", yesNo(v.Encrypted)},
		{"dirty", fmt.Sprintf("%s, oldest %s", size(v.DirtyBytes), age(v.OldestDirtyMS))},
		{"log", fmt.Sprintf("%s of %s", size(v.LogBytes), size(v.LogSize))},
		{"cache", fmt.Sprintf("%s of %s", size(v.CachedBytes), size(v.CacheSize))},
		{"reads", fmt.Sprintf("%d local, %d from the store, %s", v.Hits, v.Misses, HitRatio(v))},
		{"uploaded", fmt.Sprintf("group %d of %d, %s in %d batches since start", v.UploadedSeq, v.DurableSeq, size(v.UploadedBytes), v.UploadBatches)},
		{"epoch", fmt.Sprint(v.Epoch)},
		{"store", strings.TrimSuffix(remote(v)+": "+v.RemoteProblem, ": ")},
		{"clients", fmt.Sprint(v.Connections)},
	}
	if v.Writer != "" {
		rows = append(rows, []string{"writer", v.Writer})
	}
	if text := scrubText(v.Scrub); text != "" {
		rows = append(rows, []string{"scrub", text})
	}
	if v.LostReads > 0 {
		rows = append(rows, []string{"lost", fmt.Sprintf("%d times a damaged block was met that is not in the store", v.LostReads)})
	}
	if v.CorruptBlocks > 0 {
		rows = append(rows, []string{"corrupt", fmt.Sprintf("%d cached blocks did not match and were fetched again", v.CorruptBlocks)})
	}
	return rows
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// remote is how the store is; why it is down would be too long for a table of volumes.
func remote(v api.Volume) string {
	if v.Remote != "down" {
		return v.Remote
	}
	return "down for " + age(v.RemoteDownMS)
}

func age(ms int64) string {
	return (time.Duration(ms) * time.Millisecond).Round(100 * time.Millisecond).String()
}

// HitRatio is the share of reads that were served locally.
func HitRatio(v api.Volume) string {
	if v.Hits+v.Misses == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(v.Hits)/float64(v.Hits+v.Misses))
}

// size prints bytes in the binary unit that leaves one to four digits.
func size(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.4g %ciB", f, units[i])
}
