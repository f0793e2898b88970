package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/remote"
	"github.com/ratchetos/ratchet/plugins/gateway/volume"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// showEvery is how often figures are reported; changes of state are reported at once.
const showEvery = time.Second

// show reports until ctx ends.
func (f *Feature) show(ctx context.Context) {
	tick := time.NewTicker(showEvery)
	defer tick.Stop()
	for {
		e := event(f.runners, f.disks)
		pipelines := f.pipelines.Snapshot()
		e.Tables, e.Gauges = append(e.Tables, pipelineTable(pipelines)), append(e.Gauges, pipelineGauges(pipelines)...)
		f.session.Report(e)
		select {
		case <-tick.C:
		case <-f.changed:
		case <-ctx.Done():
			return
		}
	}
}

// show describes the volume as it is now.
func (r *runner) show() api.Volume {
	r.mu.Lock()
	v := r.volume
	out := api.Volume{
		Name: r.name, State: r.state, Disk: r.config.Disk, Size: uint64(r.config.Size), Remote: "unknown",
		WarnAt: r.config.WarnAt, Held: r.config.Upload.Hold, Encrypted: r.config.Encryption.given,
		OpenDurationUS: r.took.Microseconds(),
	}
	if r.err != nil {
		out.Message = r.err.Error()
		if do := remedy(r.err); do != "" {
			out.Message += ": " + do
		}
	}
	r.mu.Unlock()
	if v == nil {
		return out
	}
	out.Connections, out.Writer = r.requests().Connections, r.keeper.Writer(r.name, asTarget)
	s := v.Status()
	out.State, out.Remote = string(s.State), "ok"
	if s.Remote.Down {
		out.Remote, out.RemoteDownMS = "down", time.Since(s.Remote.Since).Milliseconds()
		if s.Remote.Err != nil {
			out.RemoteProblem = s.Remote.Err.Error()
		}
	}
	out.Message = explain(s)
	out.DirtyBytes, out.OldestDirtyMS = uint64(s.DirtyBytes), s.OldestDirty.Milliseconds()
	out.CachedBytes, out.CacheSize = uint64(s.HeldBytes), uint64(s.LogSize)
	out.LogBytes, out.LogSize = uint64(s.LogBytes), uint64(s.LogSize)
	out.DurableSeq, out.UploadedSeq, out.Epoch = s.DurableSeq, s.UploadedSeq, s.Epoch
	out.Hits, out.Misses, out.CorruptBlocks = s.Hits, s.Misses, s.Rotten
	out.UploadedBytes, out.UploadBatches = s.Uploaded, s.Batches
	out.LostReads = s.Lost
	out.Scrub = api.Scrub{
		Running: s.Scrub.Running || r.scrubAsked.Load() > 0, Done: uint64(s.Scrub.Done), Passes: s.Scrub.Passes, Bytes: uint64(s.Scrub.Bytes),
		Repaired: s.Scrub.Repaired, Lost: s.Scrub.Lost, Last: r.scrubs.of(r.name),
	}
	return out
}

// explain says why a volume is not attached and what it means.
func explain(s volume.Status) string {
	switch s.State {
	case volume.Detached:
		if errors.Is(s.Remote.Err, objstore.ErrRefused) {
			return "the store refuses: writes and cached reads go on, uploads resume by themselves when that is put right"
		}
		return "the store does not answer: writes and cached reads go on, uploads resume by themselves"
	case volume.Fenced:
		return fmt.Sprintf("%v; groups %d to %d were not uploaded and stay on the disk. To start over from the store here, erase the disk: ratchetctl hw claim DISK --erase",
			s.Err, s.UploadedSeq+1, s.DurableSeq)
	case volume.Failed:
		return fmt.Sprintf("%v: %s", s.Err, cmp.Or(remedy(s.Err), "see ratchetctl plugin logs gateway"))
	}
	return ""
}

// remedy is what to do about an error that does not pass by itself, "" where there is nothing to say.
func remedy(err error) string {
	switch {
	case errors.Is(err, log.ErrPoisoned):
		return "check the disk, then ratchetctl plugin restart gateway"
	case errors.Is(err, log.ErrMediaCorrupt), errors.Is(err, remote.ErrDiverged):
		return "keep the disk if what it holds matters; to start over from the store, erase it: ratchetctl hw claim DISK --erase"
	case errors.Is(err, volume.ErrShrink), errors.Is(err, remote.ErrSize):
		return "write the size that it has into the configuration; when it is up, ratchetctl volume resize changes it, to a smaller one with --shrink"
	case errors.Is(err, remote.ErrKey), errors.Is(err, errNoKey):
		return "give the volume the key that it was made with (its encryption in the configuration), or put it into the file and  ratchetctl plugin restart gateway"
	}
	return ""
}

// event is what the plugin shows of itself.
func event(runners []*runner, disks []*localDisk) *pluginpb.Event {
	e := &pluginpb.Event{Message: fmt.Sprintf("%d volumes", len(runners))}
	table := &pluginpb.Table{Name: "volumes", Columns: []string{"volume", "state", "size", "dirty", "cached", "hits", "misses", "store", "message"}}
	var all []alert
	for _, r := range runners {
		v, requests := r.show(), r.requests()
		table.Rows = append(table.Rows, &pluginpb.Row{Cells: []string{
			v.Name, v.State, mib(v.Size), mib(v.DirtyBytes), mib(v.CachedBytes), fmt.Sprint(v.Hits), fmt.Sprint(v.Misses), v.Remote, v.Message,
		}})
		all = append(all, alertsOf(v)...)
		e.Gauges = append(e.Gauges, gauges(v, requests)...)
		e.Gauges = append(e.Gauges, r.traffic.gauges(v.Name)...)
		e.Histograms = append(e.Histograms, histograms(v.Name, requests)...)
		if v.DirtyBytes > 0 {
			e.Jobs = append(e.Jobs, &pluginpb.Job{Name: "upload " + v.Name, Done: v.UploadedBytes, Total: v.UploadedBytes + v.DirtyBytes, Unit: "bytes"})
		}
	}
	for _, d := range disks {
		all = append(all, d.alerts()...)
	}
	e.Tables = []*pluginpb.Table{table}
	if len(all) > 0 {
		first := mostUrgent(all)
		e.Health, e.Message = pluginpb.Event_DEGRADED, fmt.Sprintf("volume %s %s", first[0].volume, first[0].what)
		e.Tables = append(e.Tables, alertTable(first))
	}
	return e
}

func mib(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
