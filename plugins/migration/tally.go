package migration

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/migration/api"
)

// gapBounds are the upper bounds of the histogram of gaps, in seconds: from a gap that nobody notices to one that breaks
// connections.
func gapBounds() []float64 { return []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10} }

// tally counts the moves that have ended since this process began. The zero value is not ready: since must be set.
type tally struct {
	since time.Time
	seen  map[string]bool // IDs that were counted and are still listed
	ended map[ending]uint64
	gaps  map[string]*pluginpb.Histogram // by mode
}

// ending is what moves are counted by.
type ending struct{ outcome, mode string }

// count takes in a list of all moves that are known. Each is counted once, however often it is listed.
func (t *tally) count(moves []api.Move) {
	seen := map[string]bool{}
	for _, m := range moves {
		if !m.Ended.After(t.since) {
			continue
		}
		seen[m.ID] = true
		if t.seen[m.ID] {
			continue
		}
		if t.ended == nil {
			t.ended, t.gaps = map[ending]uint64{}, map[string]*pluginpb.Histogram{}
		}
		mode := cmp.Or(m.Mode, "none")
		t.ended[ending{m.State, mode}]++
		if m.Gap > 0 {
			t.gap(mode, m.Gap.Seconds())
		}
	}
	t.seen = seen
}

func (t *tally) gap(mode string, seconds float64) {
	h := t.gaps[mode]
	if h == nil {
		h = &pluginpb.Histogram{
			Name: "migration_gap_seconds", Help: "for how long guests stood still at the switch",
			Labels: map[string]string{"mode": mode}, Bounds: gapBounds(),
		}
		h.Counts = make([]uint64, len(h.Bounds))
		t.gaps[mode] = h
	}
	for i, bound := range h.Bounds {
		if seconds <= bound {
			h.Counts[i]++
		}
	}
	h.Count++
	h.Sum += seconds
}

// show adds the counts to an event, which may outlive the next one: histograms are copied.
func (t *tally) show(e *pluginpb.Event) {
	order := func(a, b ending) int { return cmp.Or(cmp.Compare(a.outcome, b.outcome), cmp.Compare(a.mode, b.mode)) }
	for _, k := range slices.SortedFunc(maps.Keys(t.ended), order) {
		e.Gauges = append(e.Gauges, &pluginpb.Gauge{
			Name: "migration_moves_total", Help: "moves that have ended", Value: float64(t.ended[k]), Counter: true,
			Labels: map[string]string{"outcome": k.outcome, "mode": k.mode},
		})
	}
	for _, mode := range slices.Sorted(maps.Keys(t.gaps)) {
		h := t.gaps[mode]
		e.Histograms = append(e.Histograms, &pluginpb.Histogram{
			Name: h.GetName(), Help: h.GetHelp(), Labels: h.GetLabels(), Bounds: h.GetBounds(),
			Counts: slices.Clone(h.GetCounts()), Count: h.GetCount(), Sum: h.GetSum(),
		})
	}
}
