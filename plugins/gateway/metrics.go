package gateway

import (
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
)

// requests adds up what came in through all faces of the volume.
func (r *runner) requests() (sum nbd.Snapshot) {
	r.mu.Lock()
	exports := r.exports
	r.mu.Unlock()
	for _, e := range exports {
		s := e.Stats().Snapshot()
		sum.InFlight += s.InFlight
		sum.Connections += s.Connections
		add(&sum.Read, s.Read)
		add(&sum.Write, s.Write)
		add(&sum.Flush, s.Flush)
		add(&sum.Trim, s.Trim)
		add(&sum.WriteZeroes, s.WriteZeroes)
		add(&sum.BlockStatus, s.BlockStatus)
		add(&sum.Cache, s.Cache)
	}
	return sum
}

func add(to *nbd.OpCount, c nbd.OpCount) {
	to.Ops += c.Ops
	to.Bytes += c.Bytes
	to.Errors += c.Errors
	to.Total += c.Total
	for i, n := range c.Latency {
		to.Latency[i] += n
	}
}

type namedCount struct {
	name  string
	count nbd.OpCount
}

func byCommand(s nbd.Snapshot) []namedCount {
	return []namedCount{
		{"read", s.Read},
		{"write", s.Write},
		{"flush", s.Flush},
		{"trim", s.Trim},
		{"write_zeroes", s.WriteZeroes},
		{"cache", s.Cache},
		{"block_status", s.BlockStatus},
	}
}

// gauge is one figure of a volume.
type gauge struct {
	name, help string
	value      float64
	counter    bool
}

// gauges are the figures of a volume.
func gauges(v api.Volume, requests nbd.Snapshot) []*pluginpb.Gauge {
	list := []gauge{
		{"volume_size_bytes", "size of the volume", float64(v.Size), false},
		{"volume_dirty_bytes", "in the local log and not yet in the store", float64(v.DirtyBytes), false},
		{"volume_oldest_dirty_seconds", "how long the oldest of them has waited", float64(v.OldestDirtyMS) / 1000, false},
		{"volume_cached_bytes", "in the read cache", float64(v.CachedBytes), false},
		{"volume_log_used_bytes", "of the write log", float64(v.LogBytes), false},
		{"volume_log_size_bytes", "of the write log", float64(v.LogSize), false},
		{"volume_hits_total", "reads served locally", float64(v.Hits), true},
		{"volume_misses_total", "reads that needed the store", float64(v.Misses), true},
		{"volume_corrupt_blocks_total", "cached blocks that did not match their checksum and were fetched again", float64(v.CorruptBlocks), true},
		{"volume_lost_reads_total", "times that a damaged block was met which is not in the store", float64(v.LostReads), true},
		{"volume_scrubs_total", "passes of the scrub", float64(v.Scrub.Passes), true},
		{"volume_uploaded_bytes_total", "of log uploaded since start", float64(v.UploadedBytes), true},
		{"volume_upload_batches_total", "batches uploaded since start", float64(v.UploadBatches), true},
		{"volume_store_down", "1 while the store does not answer", is(v.Remote == "down"), false},
		{"volume_alerts", "1 while the volume needs somebody's attention", is(len(alertsOf(v)) > 0), false},
		{"volume_nbd_connections", "NBD clients", float64(v.Connections), false},
		{"volume_requests_in_flight", "requests that wait for a disk or the store", float64(requests.InFlight), false},
	}
	labels := map[string]string{"volume": v.Name}
	var out []*pluginpb.Gauge
	for _, g := range list {
		out = append(out, g.of(labels))
	}
	out = append(out, gauge{"volume_state", "1 for the state the volume is in", 1, false}.of(map[string]string{"volume": v.Name, "state": v.State}))
	for _, c := range byCommand(requests) {
		if c.count.Ops == 0 {
			continue
		}
		of := map[string]string{"volume": v.Name, "request": c.name}
		out = append(out,
			gauge{"volume_request_bytes_total", "read or written by clients", float64(c.count.Bytes), true}.of(of),
			gauge{"volume_request_errors_total", "requests answered with an error", float64(c.count.Errors), true}.of(of))
	}
	return out
}

func (g gauge) of(labels map[string]string) *pluginpb.Gauge {
	return &pluginpb.Gauge{Name: g.name, Help: g.help, Value: g.value, Counter: g.counter, Labels: labels}
}

func is(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// everyBucket leaves buckets of the server's histogram out: powers of four tell as much.
const everyBucket = 2

// histograms are the latencies of what clients asked of a volume.
func histograms(volume string, requests nbd.Snapshot) (list []*pluginpb.Histogram) {
	for _, c := range byCommand(requests) {
		if c.count.Ops == 0 {
			continue
		}
		h := &pluginpb.Histogram{
			Name: "volume_request_seconds", Help: "from a request that has been read to a reply that is ready",
			Labels: map[string]string{"volume": volume, "request": c.name}, Sum: c.count.Total.Seconds(),
		}
		for i, n := range c.count.Latency {
			h.Count += n
			if i < nbd.Buckets-1 && i%everyBucket == 0 {
				h.Bounds = append(h.Bounds, (time.Microsecond << i).Seconds())
				h.Counts = append(h.Counts, h.Count)
			}
		}
		list = append(list, h)
	}
	return list
}
