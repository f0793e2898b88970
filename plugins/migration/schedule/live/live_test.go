package live

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/schedule"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/draw"
)

const mib = 1 << 20

// memory is a State.
type memory struct {
	mu   sync.Mutex
	keys map[string][]byte
}

func (m *memory) Get(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys[key], nil
}

func (m *memory) Put(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys == nil {
		m.keys = make(map[string][]byte)
	}
	m.keys[key] = value
	return nil
}

// clock is set by the test.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) set(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

var evening = time.Date(2026, 3, 16, 20, 0, 0, 0, time.UTC)

// history is a link of 1000 MiB/s until evening: nine tenths busy but for the hours from 2 to 5.
func history(days int) string {
	var b strings.Builder
	b.WriteString("time,bytes_per_second\n")
	for t := evening.AddDate(0, 0, -days); t.Before(evening); t = t.Add(5 * time.Minute) {
		load := 900.0
		if h := t.Hour(); h >= 2 && h < 5 {
			load = 100
		}
		load += 20 * math.Sin(float64(t.Unix()))
		fmt.Fprintf(&b, "%s,%.0f\n", t.Format(time.RFC3339), load*mib)
	}
	return b.String()
}

func open(t *testing.T, c *clock, o Options) *Live {
	t.Helper()
	o.Now = c.now
	if o.State == nil {
		o.State = &memory{}
	}
	l, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func config(watch schedule.Watch) schedule.Config {
	return schedule.Config{Links: []schedule.Link{{Name: "uplink", Capacity: strict.Size(1000 * mib), Watch: watch}}}
}

// TestSlot: a link with a history from a file is waited for until it is quiet, the slot is explained and drawn, and the move may
// begin when it has come. Another process goes on with the kept history.
func TestSlot(t *testing.T) {
	c, state := &clock{at: evening}, &memory{}
	l := open(t, c, Options{Config: config(schedule.Watch{}), State: state})
	if n, err := l.Import(t.Context(), "uplink", history(10)); err != nil || n != 2880 {
		t.Fatalf("import: %d samples, %v", n, err)
	}
	d, err := l.Submit(schedule.Job{ID: "m-1", VM: "web", From: "h1", To: "h2", Load: schedule.Load{Bytes: 500_000 * mib}})
	if err != nil {
		t.Fatal(err)
	}
	night := evening.Add(6 * time.Hour)
	if d.State != schedule.Booked || d.Start.Before(night) || d.Start.After(night.Add(170*time.Minute)) {
		t.Errorf("%s from %v: not when the link is quiet", d.State, d.Start)
	}
	if now, at, why := l.May("m-1"); now || !at.Equal(d.Start) || why == "" {
		t.Errorf("may begin now: %v, at %v, %q", now, at, why)
	}
	v, err := l.Show("uplink")
	if err != nil {
		t.Fatal(err)
	}
	if text := draw.Schedule(v, 100); !strings.Contains(text, "▓") || !strings.Contains(text, "waiting would have saved") || !strings.Contains(text, "web (m-1) booked") {
		t.Errorf("drawn:\n%s", text)
	}
	c.set(d.Start)
	if now, _, _ := l.May("m-1"); !now {
		t.Error("its slot has come, and it may not begin")
	}
	l.Began("m-1")
	if d, _ := l.Decision("m-1"); d.State != schedule.Running {
		t.Errorf("it is %s after it began", d.State)
	}
	l.Ended("m-1")
	if _, err := l.Explain("m-1"); err == nil {
		t.Error("a move that has ended is still explained")
	}

	again := open(t, c, Options{Config: config(schedule.Watch{}), State: state})
	c.set(evening)
	if d, err = again.Submit(schedule.Job{ID: "m-2", VM: "db", Load: schedule.Load{Bytes: 500_000 * mib}}); err != nil || d.Start.Before(night) {
		t.Errorf("with the kept history: %v from %v", err, d.Start)
	}
}

// TestBudget: two moves share what the load of others leaves, by the counter on a page; what they send themselves is not taken
// for the load of others.
func TestBudget(t *testing.T) {
	var mu sync.Mutex
	others, own := 0.0, 0.0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, "tx_total %.0f\n", others+own)
	}))
	defer server.Close()
	c := &clock{at: evening}
	sent := map[string]uint64{"a": 0, "b": 0}
	limits := map[string]uint64{}
	o := Options{Config: config(schedule.Watch{Metrics: server.URL, Metric: "tx_total", Every: strict.Duration(time.Hour)})}
	o.Sent = func(id string) (uint64, bool) { return sent[id], true }
	o.Limit = func(id string, bps uint64) error { limits[id] = bps; return nil }
	l := open(t, c, o)
	k := l.links[0]
	look := func() {
		s, _, ok, err := k.look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			l.mu.Lock()
			k.sample(s)
			l.mu.Unlock()
		}
	}
	l.cancel() // the test takes the turns
	l.wait.Wait()
	for _, id := range []string{"a", "b"} {
		if _, err := l.Submit(schedule.Job{ID: id, VM: id, Load: schedule.Load{Bytes: 1 << 40}}); err != nil {
			t.Fatal(err)
		}
		l.Began(id)
	}
	second := func() {
		c.set(c.now().Add(200 * time.Millisecond))
		mu.Lock()
		others += .2 * 400 * mib
		for id, bps := range limits {
			sent[id] += bps / 5
			own += float64(bps) / 5
		}
		mu.Unlock()
		l.turn()
	}
	look()
	for i := range 60 {
		second()
		if i%10 == 9 {
			look()
		}
	}
	total := (limits["a"] + limits["b"]) / mib
	if total < 540 || total > 600 || limits["a"] != limits["b"] {
		t.Errorf("limits are %d and %d MiB/s: 400 of 1000 are used by others", limits["a"]/mib, limits["b"]/mib)
	}
}

// TestGrant: a move begins with its part of the budget, though nobody has looked at it yet; one that joins on a full link waits for
// its part until others were slowed down, and one that goes over no link is not held.
func TestGrant(t *testing.T) {
	c := &clock{at: evening}
	limits := map[string]uint64{}
	conf := config(schedule.Watch{})
	conf.Links[0].Hosts = []string{"rack1"}
	l := open(t, c, Options{
		Config: conf, Sent: func(string) (uint64, bool) { return 0, true }, Limit: func(id string, bps uint64) error { limits[id] = bps; return nil },
	})
	l.cancel() // the test takes the turns
	l.wait.Wait()
	submit := func(id, to string, priority int) uint64 {
		if _, err := l.Submit(schedule.Job{ID: id, VM: id, From: "rack0", To: to, Priority: priority, Load: schedule.Load{Bytes: 1 << 40}, Before: evening}); err != nil {
			t.Fatal(err)
		}
		return l.Grant(id)
	}
	if got := submit("elsewhere", "rack2", 0); got != 0 {
		t.Errorf("a move over no link begins with %d", got)
	}
	if got := submit("first", "rack1", 0) >> 20; got != 980 || limits["first"]>>20 != 980 {
		t.Errorf("a move alone begins with %d and is held to %d MiB/s", got, limits["first"]>>20)
	}
	if got := submit("urgent", "rack1", 5); got != trickle {
		t.Errorf("a move begins with %d on a link that is full", got)
	}
	c.set(c.now().Add(settle / 2))
	l.turn()
	if limits["urgent"] != trickle {
		t.Errorf("the urgent move has %d MiB/s before the other has given it up", limits["urgent"]>>20)
	}
	c.set(c.now().Add(settle))
	l.turn()
	if first, urgent := limits["first"]>>20, limits["urgent"]>>20; first != 49 || urgent < 900 || first+urgent > 980 {
		t.Errorf("they are held to %d and %d MiB/s", first, urgent)
	}
}

// TestUnread: a page that cannot be read is shown with the reason, and moves start at once.
func TestUnread(t *testing.T) {
	changed := make(chan struct{}, 16)
	c := &clock{at: evening}
	l := open(t, c, Options{
		Config:  config(schedule.Watch{Metrics: "http://127.0.0.1:1/metrics", Metric: "x"}),
		Changed: func() { changed <- struct{}{} },
	})
	<-changed
	d, err := l.Submit(schedule.Job{ID: "m", VM: "web", Load: schedule.Load{Bytes: mib}})
	if err != nil || !d.Start.Equal(evening) {
		t.Errorf("%v, starts at %v", err, d.Start)
	}
	if v, err := l.Show(""); err != nil || !strings.Contains(draw.Schedule(v, 0), "refused") {
		t.Errorf("shown: %v, %v", v, err)
	}
}
