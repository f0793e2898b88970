package systems

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	migration "github.com/ratchetos/ratchet/plugins/migration/api"
)

// meter is a page of Prometheus metrics: what others send over a link, and what memory a host has left.
type meter struct {
	port   string
	rate   atomic.Int64 // of the link, bytes a second
	memory atomic.Int64 // available on rack1, bytes
	read   atomic.Int64 // how often
}

func newMeter(t testing.TB) *meter {
	t.Helper()
	m := &meter{}
	m.memory.Store(roomy)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, m.port, err = net.SplitHostPort(listener.Addr().String())
	must(t, err)
	began := time.Now()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		m.read.Add(1)
		fmt.Fprintf(w, "# TYPE sent_bytes_total counter\nsent_bytes_total{link=\"uplink\"} %.0f\n", time.Since(began).Seconds()*float64(m.rate.Load()))
		fmt.Fprintf(w, "# TYPE memory_available_bytes gauge\nmemory_available_bytes{host=\"rack1\"} %d\n", m.memory.Load())
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return m
}

// TestSystemMigrationSchedule: the box forecasts a link from what it has seen of it and reads now, gives moves the slots
// that it explains, and begins them in those. It watches the processors and the memory of hosts through their agents or a page, and a
// move waits for a destination that has no room.
func TestSystemMigrationSchedule(t *testing.T) {
	migrationRows.last(t)
	s := sharedMigration(t)
	s.sees(t, "rack1")
	s.reads(t)

	// Nothing is known of its future yet: the move begins when it was asked to at the earliest.
	asked := time.Now().Add(4 * time.Second)
	m := s.moves(t, "rack2", "moved", "--after", "4s")
	if m.Began.Before(asked.Add(-2 * time.Second)) { // the box's clock and the way to it
		t.Errorf("a move that was to begin at %v began at %v", asked, m.Began)
	}
	seen(t, "load of the link read over HTTP; move begun %d ms after the time that was asked for, done in %s",
		m.Began.Sub(asked).Milliseconds(), m.Ended.Sub(m.Began).Round(100*time.Millisecond))

	s.waitsForRoom(t)

	s.meter.rate.Store(busy)
	s.reads(t)
	// Two weeks in which it was busy but for one hour of each day, two hours from now.
	path := filepath.Join(t.TempDir(), "uplink.csv")
	must(t, os.WriteFile(path, []byte(busyBut(time.Now().UTC(), 2*time.Hour)), 0o600))
	s.m.ctl("migrate", "schedule", "import", "uplink", path)
	id := s.begins(t, "rack2", "--at", "best")
	m = s.becomes(t, id, "scheduled", func(m migration.Move) bool { return m.State == "scheduled" })
	wait := time.Until(m.Begins)
	if wait < 15*time.Minute || wait > 3*time.Hour || m.Doing == "" {
		t.Errorf("the slot begins in %v: %q", wait, m.Doing)
	}
	shown := s.m.ctl("migrate", "schedule", "show", "--width", "100")
	for _, word := range []string{"uplink", "web1", id} {
		if !strings.Contains(shown, word) {
			t.Errorf("the schedule does not show %q:\n%s", word, shown)
		}
	}
	t.Logf("schedule:\n%s", shown)
	s.m.ctl("migrate", "cancel", id)
	s.becomes(t, id, "cancelled", func(m migration.Move) bool { return m.State == "not begun" })
	s.sees(t, "rack1")
	seen(t, "link forecast from two weeks of history: slot in %s, explained: %s", wait.Round(time.Minute), m.Doing)
}

// waitsForRoom orders a move to a host whose memory others have, and then gives it some.
func (s *migrationSuite) waitsForRoom(t *testing.T) {
	t.Helper()
	s.meter.memory.Store(64 << 20)
	s.reads(t)
	id := s.begins(t, "rack1", "--at", "best")
	m := s.becomes(t, id, "waiting for room", func(m migration.Move) bool { return strings.Contains(m.Doing, "of memory free") })
	shown := s.m.ctl("migrate", "schedule", "show", "--link", "rack1/cpu")
	if !strings.Contains(shown, "rack1/cpu: ") || !strings.Contains(shown, " processors") {
		t.Errorf("the schedule does not show the processors of rack1:\n%s", shown)
	}
	s.meter.memory.Store(roomy)
	if done := s.becomes(t, id, "moved", func(m migration.Move) bool { return !m.Ended.IsZero() }); done.State != "moved" {
		t.Errorf("with room, the move ended as %s: %s", done.State, done.Problem)
	}
	seen(t, "processors and memory of the hosts read through their agents and a page; move put off while its destination was full (%s), done when it had room", m.Doing)
}

// roomy is memory that is enough for the guest, busy is a load that leaves next to nothing of the link, in bytes a second.
const (
	roomy = 7 << 30
	busy  = 127 << 19
)

// reads waits until the box has read the load of the link and of both hosts, twice: there are counters among them.
func (s *migrationSuite) reads(t *testing.T) {
	t.Helper()
	const resources, pages = 5, 2
	before := s.meter.read.Load()
	await(t, stepLimit, "the box to read the loads", func() (string, bool) {
		out := s.m.asks("migrate", "schedule", "show", "-o", "json")
		reply := decode[migration.ScheduleReply](t, []byte(out))
		known := 0
		for _, l := range reply.Links {
			if l.Problem == "" && l.Capacity > 0 {
				known++
			}
		}
		return out, s.meter.read.Load() >= before+2*pages && known == resources
	})
}

// busyBut is the history of a link that is all but full, except for the hour that begins in so long.
func busyBut(now time.Time, in time.Duration) string {
	var b strings.Builder
	for at := now.Add(-14 * 24 * time.Hour); at.Before(now); at = at.Add(5 * time.Minute) {
		load := busy
		if at.Hour() == now.Add(in).Hour() {
			load = 1 << 20
		}
		fmt.Fprintf(&b, "%d,%d\n", at.Unix(), load)
	}
	return b.String()
}
