package migration

import (
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/migration/api"
)

// TestTally: each move is counted once, and none that an earlier process saw end.
func TestTally(t *testing.T) {
	begun := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	move := func(id, state, mode string, after, gap time.Duration) api.Move {
		return api.Move{ID: id, State: state, Mode: mode, Ended: begun.Add(after), Gap: gap}
	}
	c := tally{since: begun}
	list := []api.Move{
		move("old", "moved", "pre-copy", -time.Hour, time.Second),
		{ID: "under way", State: "transfer"},
		move("a", "moved", "pre-copy", 1, 40*time.Millisecond),
		move("b", "moved", "pre-copy", 2, 20*time.Second),
		move("c", "undone", "", 3, 0),
	}
	c.count(list)
	c.count(list)
	c.count(append(list[2:], move("d", "moved", "post-copy", 4, 300*time.Millisecond)))
	var e pluginpb.Event
	c.show(&e)
	want := map[string]float64{"moved/pre-copy": 2, "moved/post-copy": 1, "undone/none": 1}
	for _, g := range e.Gauges {
		key := g.Labels["outcome"] + "/" + g.Labels["mode"]
		if !g.Counter || g.Name != "migration_moves_total" || g.Value != want[key] {
			t.Errorf("%s %s is %v, want %v", g.Name, key, g.Value, want[key])
		}
		delete(want, key)
	}
	if len(want) > 0 || len(e.Histograms) != 2 {
		t.Fatalf("missing %v; %d histograms", want, len(e.Histograms))
	}
	h := e.Histograms[1]
	if h.Labels["mode"] != "pre-copy" || h.Count != 2 || h.Sum != 20.04 || h.Counts[1] != 0 || h.Counts[2] != 1 || h.Counts[len(h.Counts)-1] != 1 {
		t.Errorf("histogram %+v", h)
	}
}
