package migration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/model/load"
)

// linked is a section with one link, whose load is read from a page.
func linked(metrics string) string {
	return fmt.Sprintf(`, "schedule": {"links": [{"name": "uplink", "capacity": "1MiB", "watch": {"metrics": "%s", "metric": "sent_bytes_total", "every": "1s"}}],
		"windows": [{"name": "never", "days": "%s", "from": "00:00", "to": "00:01"}]}`, metrics, strings.ToLower(time.Now().UTC().Add(72*time.Hour).Format("Mon")))
}

// history is two weeks of a link that is busy in every hour but the one after the next.
func history(now time.Time) string {
	var b strings.Builder
	for at := now.Add(-14 * 24 * time.Hour); at.Before(now); at = at.Add(10 * time.Minute) {
		load := 95 << 20 / 100
		if at.Hour() == now.Add(2*time.Hour).Hour() {
			load = 1 << 20 / 100
		}
		fmt.Fprintf(&b, "%d,%d\n", at.Unix(), load)
	}
	return b.String()
}

// TestMoveInItsSlot: a move that may wait is given a slot and begins in it, also by the next process; one that may not begins at
// once. Which slot is best is what the tests of package schedule are about.
func TestMoveInItsSlot(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "sent_bytes_total 0")
	}))
	t.Cleanup(page.Close)
	h := newHouse(t)
	h.open(t, linked(page.URL))
	// Nothing is known of the link yet, so there is nothing to wait for but the time that was asked for.
	soon := time.Now().Add(300 * time.Millisecond)
	m := h.ended(t, h.apply(api.MoveRequest{VM: "web3", To: "rack2", NotBefore: soon}).Moves[0].ID)
	if m.State != "moved" || m.Began.Before(soon) {
		t.Errorf("a move that was not to begin before %v: %+v", soon, m)
	}

	now := time.Now().UTC()
	reply := invoke[api.ImportReply](h.started, api.MethodImport, api.ImportRequest{Link: "uplink", CSV: history(now)})
	if reply.Samples != 14*24*6 {
		t.Errorf("%d samples were read", reply.Samples)
	}
	begun := h.apply(api.MoveRequest{VM: "web1", To: "rack2", NotBefore: now.Add(2 * time.Hour)}).Moves[0]
	if wait := begun.At.Sub(now); wait < 2*time.Hour || wait > 15*time.Hour || begun.Why == "" {
		t.Errorf("it begins in %v: %q", wait, begun.Why)
	}
	m = invoke[api.MovesReply](h.started, api.MethodMoves, nil).Moves[0]
	if m.State != stateScheduled || m.Begins.Before(now.Add(2*time.Hour)) {
		t.Errorf("the move that waits for its slot: %+v", m)
	}
	show := invoke[api.ScheduleReply](h.started, api.MethodSchedule, api.ScheduleRequest{Width: 100})
	if len(show.Slots) != 1 || len(show.Links) != 1 || !strings.Contains(show.Text, "web1") {
		t.Errorf("the schedule shows %s", show.Text)
	}

	at := h.apply(api.MoveRequest{VM: "web2", To: "rack2"}).Moves[0]
	if h.ended(t, at.ID).State != "moved" {
		t.Error("the move that may not wait did not move")
	}
	h.runsOn(t, "web2", "rack2")
	h.runsOn(t, "web1", "rack1")

	window := h.apply(api.MoveRequest{VM: "web3", To: "rack1", Windows: []string{"never"}}).Moves[0]
	if h.runsOn(t, "web3", "rack2"); window.Why == "" {
		t.Errorf("a move bound to a window: %+v", window)
	}

	// The next process gives it a slot again; cancelled, it has none.
	if err := h.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.open(t, linked(page.URL))
	scheduled := func(plugin.Event) bool {
		return invoke[api.MovesReply](h.started, api.MethodMoves, api.MovesRequest{ID: begun.ID}).Moves[0].State == stateScheduled
	}
	if !scheduled(nil) {
		h.until("the move to have a slot again", scheduled)
	}
	invoke[none](h.started, api.MethodCancel, api.IDRequest{ID: begun.ID})
	if m := h.ended(t, begun.ID); m.State != stateNotBegun {
		t.Errorf("cancelled: %+v", m)
	}
	h.runsOn(t, "web1", "rack1")
}

// watchedHosts is a section whose hosts are watched through their agents.
const watchedHosts = `, "schedule": {"hosts": [{"name": "rack1", "cpu": {"watch": {"every": "1s"}}, "memory": {"watch": {"every": "1s"}}},
	{"name": "rack2", "cpu": {"watch": {"every": "1s"}}, "memory": {"keep": "1GiB", "watch": {"every": "1s"}}}]}`

// TestMoveWaitsForRoom: a move that may wait begins when its destination's memory has room for it; the drawing says what hosts have to do.
func TestMoveWaitsForRoom(t *testing.T) {
	h := newHouse(t)
	h.world.SetLoad("rack2", load.Host{CPUs: 16, Busy: time.Hour, Memory: 8 << 30, Available: 1 << 30})
	h.open(t, watchedHosts)
	h.until("the load of rack2 to be read", func(e plugin.Event) bool {
		return slices.ContainsFunc(e.Gauges, func(g *pluginpb.Gauge) bool {
			return g.Name == "migration_watched_load" && g.Labels["resource"] == "rack2/memory" && g.Value == 7<<30
		})
	})
	show := invoke[api.ScheduleReply](h.started, api.MethodSchedule, api.ScheduleRequest{Link: "rack2/memory", Width: 100})
	if !strings.Contains(show.Text, "rack2/memory: 8 GiB, of which 1 GiB stay free, 7 GiB are in use") {
		t.Errorf("the schedule shows %s", show.Text)
	}
	begun := h.apply(api.MoveRequest{VM: "web1", To: "rack2", When: api.WhenBest}).Moves[0]
	if !strings.Contains(begun.Why, "rack2 has 0 B of memory free") {
		t.Errorf("a move to a full host: %+v", begun)
	}
	h.runsOn(t, "web1", "rack1")
	h.world.SetLoad("rack2", load.Host{CPUs: 16, Busy: time.Hour, Memory: 8 << 30, Available: 7 << 30})
	if m := h.ended(t, begun.ID); m.State != "moved" {
		t.Errorf("when there was room: %+v", m)
	}
	h.runsOn(t, "web1", "rack2")
}

func TestWatchedHostsAreThoseOfMoves(t *testing.T) {
	v := New().Validate(t.Context(), plugin.Section{JSON: []byte(`{"hosts": [{"name": "a", "vmhost": "192.0.2.1:7000"}, {"name": "b", "qmp": "tcp:h:4444"}],
		"schedule": {"hosts": [{"name": "a"}, {"name": "b"}], "links": [{"name": "l", "capacity": "1GiB", "hosts": ["a", "c"], "watch": {"host": "d", "nic": "eth0"}}]}}`)})
	var got []string
	for _, d := range v.Diagnostics {
		got = append(got, d.Path)
	}
	slices.Sort(got)
	if want := []string{"schedule.hosts[1].name", "schedule.links[0].hosts[1]", "schedule.links[0].watch.host"}; !slices.Equal(got, want) {
		t.Errorf("problems at %q, not at %q", got, want)
	}
}

func TestWithoutLinksThereAreNoSlots(t *testing.T) {
	h := newHouse(t)
	h.open(t, "")
	if _, err := h.Invoke(t.Context(), api.MethodSchedule, nil); err == nil || !strings.Contains(err.Error(), "no links and no hosts are watched") {
		t.Errorf("schedule without links: %v", err)
	}
	body, _ := json.Marshal(api.MoveRequest{VM: "web1", To: "rack2", When: api.WhenBest})
	if _, err := h.Invoke(t.Context(), api.MethodApply, body); err == nil || !strings.Contains(err.Error(), "no links and no hosts are watched") {
		t.Errorf("a slot without links: %v", err)
	}
	h.runsOn(t, "web1", "rack1")
	body, _ = json.Marshal(api.ImportRequest{Link: "uplink", CSV: "1,1\n"})
	if _, err := h.Invoke(t.Context(), api.MethodImport, body); err == nil {
		t.Error("a history of no link was imported")
	}
}
