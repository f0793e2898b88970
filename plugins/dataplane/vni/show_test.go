package vni

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
)

// What a box without hosts shows, and what it makes of a host's counters.
func TestShown(t *testing.T) {
	b := controltest.Server(t, controltest.Options{})
	p := New(Options{State: controltest.NewMemoryState(), Control: b.Server()})
	if _, err := p.Invoke(t.Context(), api.MethodList, nil); err == nil {
		t.Error("listed before the start")
	}
	d := Desired{Interfaces: []failover.Interface{{ID: theVNI, MAC: vniMAC, Candidates: []failover.Candidate{{Host: "h1", Instance: "a"}}}}}
	if err := p.Start(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	defer p.Stop(t.Context())
	for _, host := range []string{"h2", "h1"} {
		if _, err := p.counted(t.Context(), host, []byte(`{"delivered": 10, "stale epoch": 2, "from the future": 7}`)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.counted(t.Context(), "h1", []byte(`[]`)); err == nil {
		t.Error("read counters that are none")
	}
	var cells []string
	for _, table := range p.Tables() {
		for _, row := range table.Rows {
			cells = append(cells, strings.Join(row.Cells, "|"))
		}
	}
	want := []string{"71||recovering|-|0|h1/a (dead)", "h1|delivered|10", "h1|stale epoch|2", "h2|delivered|10", "h2|stale epoch|2"}
	if got := strings.Join(cells, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("tables show\n%s", got)
	}
	stale := 0.0
	for _, g := range p.Gauges() {
		if g.Name == "vni_packets_total" && g.Labels["outcome"] == "stale epoch" {
			stale = g.Value
		}
	}
	if stale != 4 {
		t.Errorf("%v stale packets, want 4", stale)
	}
	for _, m := range Methods() {
		if _, err := p.Invoke(t.Context(), m.Name, []byte("{}")); (err != nil) != (m.Name == api.MethodMove) {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
	p.with(func(e *failover.Engine) { e.Tick(clock()) })
	if health, message := p.Health(); health == pluginpb.Event_FAILED {
		t.Errorf("health %v: %s", health, message)
	}
}

// Of the hosts that are enrolled those that vote elect a box, and it says when they are too few.
func TestVoters(t *testing.T) {
	b := controltest.Server(t, controltest.Options{})
	for _, name := range []string{"h1", "h2", "h3", "client-1", "client-2", "backend-1", "backend-2"} {
		b.File(name)
	}
	p := New(Options{State: controltest.NewMemoryState(), Control: b.Server()})
	d := Parse("vnis", Config{ID: 1, Peers: 1, Voters: []string{"h1", "h2", "h3"}}, nil)
	if err := p.Start(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	defer p.Stop(t.Context())
	number := uint64(0)
	beats := func(hosts []string, until func() bool) {
		t.Helper()
		for end := time.Now().Add(wait); !until(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				_, message := p.Health()
				t.Fatalf("not after %v with beats of %v: %s", wait, hosts, message)
			}
			number++
			for _, h := range hosts {
				p.beat(h, 0, appendBeat(nil, failover.Beat{Incarnation: 1, Number: number, Unled: time.Minute}))
			}
		}
	}
	beats([]string{"h1", "client-1", "client-2"}, func() bool {
		health, message := p.Health()
		return health == pluginpb.Event_DEGRADED && strings.HasPrefix(message, "1 of the 3 hosts that vote wait")
	})
	beats([]string{"h1", "h2"}, func() bool {
		reply, err := p.list()
		return err == nil && reply.Leads
	})
	if health, message := p.Health(); health != pluginpb.Event_DEGRADED || !strings.Contains(message, "follow this box") {
		t.Errorf("nobody follows yet, and the box says %v: %s", health, message)
	}
}

// What is sent to core every two seconds is bounded; ratchetctl asks for all of it.
func TestShownIsBounded(t *testing.T) {
	p := New(Options{State: controltest.NewMemoryState(), Control: controltest.Server(t, controltest.Options{}).Server()})
	d := Parse("vnis", Config{}, nil)
	for id := range uint32(1000) {
		d.Interfaces = append(d.Interfaces, failover.Interface{ID: id + 1, Candidates: []failover.Candidate{{Host: "h1", Instance: "a"}}})
	}
	if err := p.Start(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	defer p.Stop(t.Context())
	for host := range 1000 {
		if _, err := p.counted(t.Context(), fmt.Sprintf("h%d", host), []byte(`{"delivered": 1}`)); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range p.Tables() {
		if len(table.Rows) != maxShown {
			t.Errorf("table %s has %d rows, want %d", table.Name, len(table.Rows), maxShown)
		}
	}
	if reply, err := p.list(); err != nil || len(reply.Interfaces) != 1000 || len(p.packets().Hosts) != 1000 {
		t.Errorf("lists are cut: %v", err)
	}
}

// badDisk is a State that can be read when it says so.
type badDisk struct {
	State
	bad bool
}

func (d *badDisk) Get(ctx context.Context, key string) ([]byte, error) {
	if d.bad {
		return nil, errors.New("input/output error")
	}
	return d.State.Get(ctx, key)
}

// A configuration that could not be taken over does not keep the next one from it, also when that is the one before.
func TestApplyAfterAnError(t *testing.T) {
	disk := &badDisk{State: controltest.NewMemoryState()}
	p := New(Options{State: disk, Control: controltest.Server(t, controltest.Options{}).Server()})
	alone, second := Parse("vnis", Config{}, nil), Parse("vnis", Config{ID: 1, Peers: 1}, nil)
	if err := p.Start(t.Context(), alone); err != nil {
		t.Fatal(err)
	}
	defer p.Stop(t.Context())
	disk.bad = true
	if err := p.Apply(t.Context(), second); err == nil {
		t.Fatal("applied what could not be read")
	}
	disk.bad = false
	if err := p.Apply(t.Context(), alone); err != nil {
		t.Fatal(err)
	}
	if _, err := p.list(); err != nil {
		t.Error(err)
	}
}
