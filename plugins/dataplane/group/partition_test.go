package group_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/group"
	"github.com/ratchetos/ratchet/plugins/dataplane/group/api"
)

// TestPartition: a client that cannot reach its control plane goes on for its lease and not longer. What the control
// plane promises about it (Wait) holds at that moment.
func TestPartition(t *testing.T) {
	t.Parallel()
	const lease = 1200 * time.Millisecond
	w := newWorld(t)
	b := w.box(1, lease)
	m1, m2 := w.member(1), w.member(2)
	c := w.client(100, b)
	b.create("web", address)
	b.add("web", m1)
	b.settled()
	until(t, "connections pass", func() bool { _, err := c.ask(address); return err == nil })
	until(t, "the client is confirmed", func() bool { return b.confirmedWithin(lease / 2) })

	// Shorter than the lease: nobody notices.
	b.ns.IP("link set eth0 down")
	for end := time.Now().Add(lease / 3); time.Now().Before(end); {
		if name, err := c.ask(address); name != "m1" {
			t.Fatalf("in a short outage: %q, %v", name, err)
		}
	}
	b.ns.IP("link set eth0 up")
	b.settled()
	until(t, "the client is confirmed", func() bool { return b.confirmedWithin(lease / 2) })

	// Longer: the member is replaced meanwhile, and Wait says when the old one is surely not used any more.
	b.ns.IP("link set eth0 down")
	v, err := b.part.Moved(t.Context(), m1.vni, group.Location{Underlay: m2.at, MAC: [6]byte{2, 'r', 'a', 't', 'v', 'x'}, Epoch: 2})
	check(t, err)
	early, cancel := context.WithTimeout(t.Context(), lease/6)
	if err := b.part.Wait(early, v); err == nil {
		t.Error("Wait returned while the client may use the old place")
	}
	cancel()
	if name, err := c.ask(address); name != "m1" {
		t.Errorf("within the lease: %q, %v", name, err)
	}
	check(t, b.part.Wait(t.Context(), v))
	if name, err := c.ask(address); err == nil {
		t.Errorf("after the lease %s still gets connections", name)
	}

	// Healed: at the new place.
	b.ns.IP("link set eth0 up")
	until(t, "the client uses the new place", func() bool { name, _ := c.ask(address); return name == "m2" })
}

// TestSilentAgent: the program enforces the lease by itself.
func TestSilentAgent(t *testing.T) {
	t.Parallel()
	const lease = 600 * time.Millisecond
	w := newWorld(t)
	b := w.box(1, lease)
	c := w.client(100, b)
	b.create("web", address)
	b.add("web", w.member(1))
	b.settled()
	until(t, "connections pass", func() bool { _, err := c.ask(address); return err == nil })
	c.stop()
	stopped := time.Now()
	var last time.Time // when the last connection that came about was begun
	until(t, "connections do not pass", func() bool {
		began := time.Now()
		_, err := c.ask(address)
		if err == nil {
			last = began
		}
		return err != nil
	})
	if late := last.Sub(stopped); late > lease {
		t.Errorf("a dead agent's host sent after %s, its lease is %s", late, lease)
	}
}

// TestTwoControlPlanes: a client that has heard of the higher term never goes back, and its word fences the other.
func TestTwoControlPlanes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.box(1, time.Second), w.box(2, time.Second)
	m1, m2 := w.member(1), w.member(2)
	c := w.client(100, a, b)
	a.create("web", address)
	a.add("web", m1)
	until(t, "the first control plane's member answers", func() bool { name, _ := c.ask(address); return name == "m1" })
	var err error
	until(t, "the second has heard of the first", func() bool {
		err = b.try(api.MethodCreate, api.CreateRequest{Name: "x"}, nil)
		return err != nil && strings.Contains(err.Error(), "group promote")
	})
	if b.fenced() {
		t.Error("a box that stands by complains of it")
	}

	b.call(api.MethodPromote, struct{}{}, nil)
	b.create("web", address)
	b.add("web", m2)
	until(t, "the second control plane's member answers", func() bool { name, _ := c.ask(address); return name == "m2" })
	until(t, "the first is fenced", a.fenced)
	err = a.try(api.MethodAdd, api.AddRequest{Group: "web", Member: "m3", VNI: 1003, Host: m2.at}, nil)
	if err == nil || !strings.Contains(err.Error(), "group promote") {
		t.Errorf("a fenced control plane changes its groups: %v", err)
	}
	for range 50 {
		if name, err := c.ask(address); name != "m2" {
			t.Fatalf("%q answers for the fenced control plane: %v", name, err)
		}
	}
	// A new process of the agent, alone with the fenced one, does not follow it either.
	c.stop()
	c.boxes = []*box{a}
	c.start()
	until(t, "the lease of the second has run out", func() bool { _, err := c.ask(address); return err != nil })
	if name, err := c.ask(address); err == nil {
		t.Errorf("%q answers for the fenced control plane", name)
	}
}

// TestManyHosts: each client's acknowledgement is known, and the slowest is named.
func TestManyHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.box(1, 2*time.Second)
	m := w.member(1)
	var clients []*client
	for i := range 4 {
		clients = append(clients, w.client(100+i, b))
	}
	b.create("web", address)
	b.add("web", m)
	b.settled()
	clients[2].stop()
	b.call(api.MethodDrain, api.DrainRequest{MemberRequest: api.MemberRequest{Group: "web", Member: m.name}}, nil)
	until(t, "three of four have the change", func() bool {
		var r api.ClientsReply
		b.call(api.MethodClients, struct{}{}, &r)
		behind := 0
		for _, c := range r.Clients {
			if c.Applied != r.Version {
				behind++
			}
		}
		return behind == 1 && len(r.Clients) == 4 && r.Clients[0].Host == "c102"
	})
	if level, message := b.part.Health(); message != "" {
		t.Errorf("health %s: %s", level, message)
	}
	for _, table := range b.part.Tables() {
		if len(table.Rows) == 0 {
			t.Errorf("table %s is empty", table.Name)
		}
		for _, r := range table.Rows {
			if len(r.Cells) != len(table.Columns) {
				t.Errorf("table %s: %d columns, a row of %d", table.Name, len(table.Columns), len(r.Cells))
			}
		}
	}
	gauges := ""
	for _, g := range b.part.Gauges() {
		gauges += fmt.Sprintf("%s=%v ", g.Name, g.Value)
	}
	if want := "groups=1 group_members=1 group_members_down=0 group_epoch=4 group_leads=1 group_clients=4 group_clients_behind=1"; !strings.HasPrefix(gauges, want) {
		t.Errorf("gauges %s, want %s …", gauges, want)
	}
}

func (b *box) fenced() bool {
	_, message := b.part.Health()
	return strings.Contains(message, "another control plane")
}

// confirmedWithin says whether all clients were confirmed so lately.
func (b *box) confirmedWithin(d time.Duration) bool {
	var r api.ClientsReply
	b.call(api.MethodClients, struct{}{}, &r)
	for _, c := range r.Clients {
		if c.Confirmed > d {
			return false
		}
	}
	return len(r.Clients) == len(b.hosts)
}
