package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/volume"
)

// urgency orders alerts.
type urgency int

const (
	warning  urgency = iota // will become a problem
	degraded                // some clients notice
	down                    // the volume does not serve
)

func (u urgency) String() string { return [...]string{"warning", "degraded", "down"}[u] }

// alert is something about a volume that needs somebody's attention.
type alert struct {
	volume  string
	urgency urgency
	what    string // continues "volume NAME"
	do      string
}

// tooOld is when data that is not uploaded is worth a warning: the store answers and yet nothing moves.
const tooOld = 10 * time.Minute

// alertsOf finds what needs attention in what a volume says of itself.
func alertsOf(v api.Volume) (list []alert) {
	add := func(u urgency, what, do string) { list = append(list, alert{v.Name, u, what, do}) }
	switch v.State {
	case stateStarting, string(volume.Opening), string(volume.Attached):
	case string(volume.Detached):
		add(degraded, fmt.Sprintf("has no store for %s", age(v.RemoteDownMS)), "see why: "+v.RemoteProblem)
	case stateWaiting:
		add(down, "cannot come up yet", v.Message)
	default:
		add(down, "is "+v.State, v.Message)
	}
	if v.LogSize > 0 && v.WarnAt > 0 && v.DirtyBytes*100 >= v.LogSize*uint64(v.WarnAt) {
		what := fmt.Sprintf("has %d %% of its local space full of data that is not uploaded", v.DirtyBytes*100/v.LogSize)
		do := "give it upload bandwidth, or a larger cache_size on a larger disk; when it is full, writes wait for the store"
		switch {
		case v.Held:
			do = "take upload.hold out of its configuration, which keeps everything local; when it is full, writes wait"
		case v.Remote == "down":
			do = "bring its store back; when it is full, writes wait"
		}
		add(warning, what, do)
	}
	if v.Remote != "down" && !v.Held && v.OldestDirtyMS > tooOld.Milliseconds() {
		add(warning, fmt.Sprintf("has data that waits for its upload since %s", age(v.OldestDirtyMS)),
			"the store is slower than the writes: look at volume_uploaded_bytes_total, at upload.bandwidth and at the network")
	}
	if v.LostReads > 0 {
		add(degraded, "has damaged data on its disk that is not in the store", "reads of it fail; write it again, or restore it from elsewhere, and replace the disk; see ratchetctl plugin logs gateway")
	}
	if v.CorruptBlocks > 0 {
		add(warning, fmt.Sprintf("found %d damaged blocks on its disk and fetched them again", v.CorruptBlocks), "the disk forgets what was written to it: replace it soon")
	}
	return list
}

// alerts finds what nobody uses any more.
func (d *localDisk) alerts() (list []alert) {
	for _, name := range d.orphans() {
		list = append(list, alert{
			name, warning, "is not configured to be on " + d.handle.ID + " and has space there",
			"configure it again, or give the space back, with what is not uploaded: ratchetctl volume release " + name,
		})
	}
	return list
}

func age(ms int64) string { return (time.Duration(ms) * time.Millisecond).Round(time.Second).String() }

// mostUrgent sorts.
func mostUrgent(list []alert) []alert {
	slices.SortStableFunc(list, func(a, b alert) int { return cmp.Compare(b.urgency, a.urgency) })
	return list
}

// alertTable is shown by ratchetctl status.
func alertTable(list []alert) *pluginpb.Table {
	t := &pluginpb.Table{Name: "alerts", Columns: []string{"volume", "alert", "what", "to do"}}
	for _, a := range list {
		t.Rows = append(t.Rows, &pluginpb.Row{Cells: []string{a.volume, a.urgency.String(), a.what, a.do}})
	}
	return t
}
