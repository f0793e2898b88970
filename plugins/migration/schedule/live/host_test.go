package live

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/model/load"
	"github.com/ratchetos/ratchet/plugins/migration/schedule"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/draw"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/watch"
)

// agents are those of all hosts.
type agents struct {
	mu    sync.Mutex
	loads map[string]load.Host
}

func (a *agents) load(_ context.Context, host string) (load.Host, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.loads[host], nil
}

func (a *agents) change(host string, f func(l *load.Host)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.loads[host]
	f(&l)
	a.loads[host] = l
}

// hosts opens a schedule that watches h1 and h2 with eight processors and 64 GiB each, and takes the turns itself.
func hosts(t *testing.T, c *clock, o Options) (*Live, *agents) {
	t.Helper()
	idle := load.Host{CPUs: 8, Busy: time.Hour, Memory: 64 << 30, Available: 32 << 30}
	a := &agents{loads: map[string]load.Host{"h1": idle, "h2": idle}}
	hour := schedule.Watch{Every: strict.Duration(time.Hour)}
	for _, name := range []string{"h1", "h2"} {
		o.Config.Hosts = append(o.Config.Hosts, schedule.Host{
			Name: name, CPU: schedule.CPU{Budget: 4, Rate: 100 * mib, Watch: hour}, Memory: schedule.Memory{Keep: 2 << 30, Watch: hour},
		})
	}
	o.Load = a.load
	l := open(t, c, o)
	l.cancel()
	l.wait.Wait()
	return l, a
}

// look reads every load.
func look(t *testing.T, l *Live) {
	t.Helper()
	read := func(r *resource, take func(s watch.Sample)) {
		s, whole, ok, err := r.look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		r.told(whole)
		if ok {
			take(s)
		}
	}
	for _, k := range l.links {
		read(&k.resource, k.sample)
	}
	for _, m := range l.rooms {
		read(&m.resource, m.sample)
	}
}

// TestProcessors: two moves from one host share what its guests leave of its processors; what they use themselves is not taken for the
// load of guests.
func TestProcessors(t *testing.T) {
	c := &clock{at: evening}
	sent, limits := map[string]uint64{}, map[string]uint64{}
	l, agents := hosts(t, c, Options{
		Sent:  func(id string) (uint64, bool) { return sent[id], true },
		Limit: func(id string, bps uint64) error { limits[id] = bps; return nil },
	})
	look(t, l)
	for i, id := range []string{"a", "b"} {
		sent[id] = 0
		if _, err := l.Submit(schedule.Job{ID: id, VM: id, From: "h1", To: fmt.Sprint("h", 2+i), Load: schedule.Load{Bytes: 1 << 40}}); err != nil {
			t.Fatal(err)
		}
		l.Began(id)
	}
	for i := range 60 {
		c.set(c.now().Add(200 * time.Millisecond))
		own := 0.0
		for id, bps := range limits {
			sent[id] += bps / 5
			own += float64(bps) / 5 / (100 * mib)
		}
		// Guests keep five of eight busy, so three are left of the four that moves may use.
		agents.change("h1", func(l *load.Host) { l.Busy += time.Second + time.Duration(own*float64(time.Second)) })
		l.turn()
		if i%10 == 9 {
			look(t, l)
		}
	}
	if total := (limits["a"] + limits["b"]) / mib; total < 270 || total > 300 || limits["a"] != limits["b"] {
		t.Errorf("limits are %d and %d MiB/s: five of eight processors are busy, each of which carries 100", limits["a"]/mib, limits["b"]/mib)
	}
	v, err := l.Show("h1/cpu")
	if err != nil || len(v.Links) != 1 {
		t.Fatal(v, err)
	}
	if text := draw.Schedule(v, 100); !strings.Contains(text, "h1/cpu: 8 processors, moves may use 4, others use 5") {
		t.Errorf("drawn:\n%s", text)
	}
}

// TestRoom: a move waits for a destination without room until there is some; one that has just arrived counts before it is measured.
func TestRoom(t *testing.T) {
	c := &clock{at: evening}
	l, agents := hosts(t, c, Options{})
	look(t, l)
	submit := func(id string, gib uint64) {
		t.Helper()
		if _, err := l.Submit(schedule.Job{ID: id, VM: id, From: "h1", To: "h2", Memory: gib << 30, Load: schedule.Load{Bytes: gib << 30}}); err != nil {
			t.Fatal(err)
		}
	}
	may := func(id string, want bool, why string) {
		t.Helper()
		l.mu.Lock()
		l.plan(c.now())
		l.mu.Unlock()
		now, _, _ := l.May(id)
		text, err := l.Explain(id)
		if now != want || err != nil || !strings.Contains(strings.Join(text, "; "), why) {
			t.Errorf("%s may begin: %v, %q (%v)", id, now, text, err)
		}
	}
	submit("large", 40)
	may("large", false, "h2 has 30 GiB of memory free")
	submit("fits", 20)
	may("fits", true, "")
	l.Began("fits")
	c.set(evening.Add(10 * time.Minute))
	l.Ended("fits") // nobody has looked since it began
	submit("next", 20)
	may("next", false, "h2 has 10 GiB of memory free")
	l.Ended("next") // it was cancelled
	agents.change("h2", func(l *load.Host) { l.Available = 60 << 30 })
	look(t, l)
	may("large", true, "")
	if v, err := l.Show("h2/memory"); err != nil || !strings.Contains(draw.Schedule(v, 100), "h2/memory: 64 GiB, of which 2 GiB stay free, 4 GiB are in use") {
		t.Errorf("drawn: %v, %v", v, err)
	}
	if _, err := l.Show("h7/memory"); err == nil {
		t.Error("a host that is not watched is drawn")
	}
}

// TestRoomComes: a move without a slot is told to begin by the first look that finds room for it.
func TestRoomComes(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 30)
	tell := func(c chan struct{}) func() {
		return func() {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
	changed, measured := make(chan struct{}, 1), make(chan struct{}, 1)
	ten := schedule.Watch{Every: strict.Duration(10 * time.Millisecond)}
	l, err := New(t.Context(), Options{
		Config: schedule.Config{Hosts: []schedule.Host{{Name: "h2", CPU: schedule.CPU{Watch: ten}, Memory: schedule.Memory{Watch: ten}}}},
		State:  &memory{}, Changed: tell(changed), Measured: tell(measured),
		Load: func(context.Context, string) (load.Host, error) {
			return load.Host{CPUs: 1, Memory: 8 << 30, Available: free.Load()}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(context.Background())
	wait := func(c chan struct{}, what string) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(10 * time.Second):
			t.Fatal("waited for " + what)
		}
	}
	for len(l.Loads()) < 2 {
		wait(measured, "both loads")
	}
	wait(changed, "word of the first loads")
	if d, err := l.Submit(schedule.Job{ID: "m", VM: "web", To: "h2", Memory: 2 << 30, Load: schedule.Load{Bytes: 1}}); err != nil || d.State != schedule.Denied {
		t.Fatal(d, err)
	}
	free.Store(3 << 30)
	for now := false; !now; now, _, _ = l.May("m") {
		wait(changed, "word of the room") // the first may still be about the other's first load
	}
}

// TestGivenSize: of a host whose memory is configured no more is counted on, whatever its agent says.
func TestGivenSize(t *testing.T) {
	conf := schedule.Config{Hosts: []schedule.Host{{Name: "h3", Memory: schedule.Memory{Size: 48 << 30}}}}
	l, agents := hosts(t, &clock{at: evening}, Options{Config: conf})
	agents.change("h3", func(l *load.Host) { *l = load.Host{CPUs: 8, Memory: 64 << 30, Available: 32 << 30} })
	look(t, l)
	d, err := l.Submit(schedule.Job{ID: "m", VM: "web", To: "h3", Memory: 20 << 30, Load: schedule.Load{Bytes: 1}})
	if err != nil || d.State != schedule.Denied || !strings.Contains(strings.Join(d.Why, "; "), "h3 has 16 GiB") {
		t.Errorf("%s: %q (%v)", d.State, d.Why, err)
	}
}

// TestHostHistory: a month of a host's processors in a file is followed, once its agent has said how many there are.
func TestHostHistory(t *testing.T) {
	c := &clock{at: evening}
	l, _ := hosts(t, c, Options{})
	var csv strings.Builder
	for at := evening.AddDate(0, 0, -10); at.Before(evening); at = at.Add(5 * time.Minute) {
		busy := 7.6
		if h := at.Hour(); h >= 2 && h < 5 {
			busy = 1
		}
		fmt.Fprintf(&csv, "%d,%.1f\n", at.Unix(), busy)
	}
	if _, err := l.Import(t.Context(), "h1/cpu", csv.String()); err == nil || !strings.Contains(err.Error(), "not said yet") {
		t.Errorf("a history of nobody knows how many processors: %v", err)
	}
	look(t, l)
	if n, err := l.Import(t.Context(), "h1/cpu", csv.String()); err != nil || n != 2880 {
		t.Fatalf("import: %d, %v", n, err)
	}
	d, err := l.Submit(schedule.Job{ID: "m", VM: "web", From: "h1", To: "h2", Load: schedule.Load{Bytes: 100 << 30}})
	if err != nil || d.Start.Before(evening.Add(6*time.Hour)) || !strings.Contains(strings.Join(d.Why, "; "), "h1/cpu has") {
		t.Errorf("begins at %v (%v): %q", d.Start, err, d.Why)
	}
}
