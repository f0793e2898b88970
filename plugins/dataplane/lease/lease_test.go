package lease

import (
	"log/slog"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// TestLeasedProducersServe: two boxes lease two producers to a host, whose connections spread over them, stay on them
// over a restart of its agent, and are seen by the operator.
func TestLeasedProducersServe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 2*time.Second)
	w.produce("p1", 4)
	w.produce("p2", 4)
	for _, b := range w.boxes {
		until(t, "each box has its share of both producers", func() bool { return len(b.web().Producers) == 2 && b.web().Share >= 4 })
	}
	c := w.host("c1")
	c.late = true
	config := AgentConfig{Consume: []ConsumeConfig{{Service: "web", Leases: 2}}}
	c.run(config)
	c.consumes(2)
	seen := map[string]int{}
	var open []func() string
	var first []string
	for i := range 16 {
		conn, producer := c.ask([]string{service4, service6}[i%2])
		seen[producer]++
		open, first = append(open, func() string { return again(t, conn) }), append(first, producer)
	}
	if seen["p1"] == 0 || seen["p2"] == 0 {
		t.Errorf("16 connections went to %v, want both producers: %+v", seen, c.status())
	}
	agents := map[string]bool{}
	for _, l := range c.status().Consumed {
		agents[l.Agent] = true
	}
	if len(agents) != 2 {
		t.Errorf("leases are from %d agents, want both", len(agents))
	}
	leased := uint64(0)
	for _, b := range w.boxes {
		leased += b.web().Leased
	}
	if leased != 2 {
		t.Errorf("the boxes know of %d leases, want 2", leased)
	}
	c.stop()
	c.run(config)
	for i := range open {
		if now := open[i](); now != first[i] {
			t.Errorf("connection %d moved from %s to %s at the restart", i, first[i], now)
		}
	}
	c.consumes(2)
	if o := c.status().Outcomes; o.Moved+o.Expired+o.NoLease > 0 {
		t.Errorf("outcomes %+v: flows moved or were dropped", o)
	}
	var list api.ListReply
	w.boxes[0].call(api.MethodList, api.ListRequest{Service: "web"}, &list)
	if len(list.Leases) != 1 || list.Leases[0].Consumer != "c1" {
		t.Errorf("first box lists %+v, want one lease of c1", list.Leases)
	}
}

// TestAgentsOutageLosesNothing: with every leasing agent down for half a TTL, of a stream of a datagram a millisecond
// nothing is lost; with the consumer's own agent dead too, nothing arrives once the lease has run out (D5).
func TestAgentsOutageLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 5*time.Second)
	p := w.produce("p1", 1)
	received := p.accepted
	c := w.host("c1")
	c.run(AgentConfig{Consume: []ConsumeConfig{{Service: "web", Leases: 1}}})
	c.consumes(1)
	send := c.stream()
	// From here to the lease's end is more than the outage and what a busy machine takes to join again. At worst it begins
	// just before a renewal, when two thirds of the TTL are left: also more than half.
	until(t, "the lease has just been renewed", func() bool { send(1); return c.status().Consumed[0].Left > w.ttl*9/10 })
	for _, b := range w.boxes {
		b.down()
	}
	outage := time.After(w.ttl / 2)
	for running := true; running; {
		select {
		case <-outage:
			running = false
		default:
			send(10)
		}
	}
	for _, b := range w.boxes {
		b.up()
	}
	until(t, "the lease is renewed", func() bool {
		send(1)
		s := c.status()
		return len(s.Consumed) == 1 && s.Consumed[0].Left > w.ttl*3/4
	})
	sent := send(0)
	if o := c.status().Outcomes; o.Expired+o.NoLease+o.Moved > 0 {
		t.Fatalf("outcomes %+v: want nothing dropped or moved", o)
	}
	until(t, "all that was sent has arrived", func() bool { return received() == sent })

	left := c.status().Consumed[0].Left
	c.stop() // the process that renews is dead; the program is not
	for _, b := range w.boxes {
		b.down()
	}
	end := time.After(left)
	for running := true; running; {
		select {
		case <-end:
			running = false
		default:
			send(1)
		}
	}
	during := send(0)
	send(200)
	before := received()
	if before > during {
		t.Errorf("%d datagrams arrived, more than the %d sent before the lease ran out", before, during)
	}
	if before == sent {
		t.Error("nothing arrived although the lease had not run out")
	}
}

// TestDeadProducerIsReplaced: an instance dies, its host's agent lives; a third of the TTL is not waited for.
func TestDeadProducerIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 4*time.Second)
	check := w.host("p1")
	check.serve()
	probe := check.Listen("tcp", check.at+":90")
	check.run(AgentConfig{Produce: []ProduceConfig{{Service: "web", Name: "p1", Quota: 4, Underlay: check.at, Check: check.at + ":90"}}})
	c := w.host("c1")
	c.run(AgentConfig{Consume: []ConsumeConfig{{Service: "web", Leases: 1}}})
	c.consumes(1)
	w.produce("p2", 4)
	until(t, "the second producer is held", func() bool { return w.boxes[0].web().Share == 4 })
	probe.Close()
	died := time.Now()
	until(t, "the producer is replaced", func() bool {
		s := c.status().Consumed
		return len(s) == 1 && s[0].Producer == "p2"
	})
	t.Logf("replaced after %v", time.Since(died))
	if _, producer := c.ask(service4); producer != "p2" {
		t.Errorf("a new connection went to %s, want p2", producer)
	}
}

// TestSilentProducersHostIsReplaced: the whole host is gone; nobody is there to say so.
func TestSilentProducersHostIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 2*time.Second)
	p1 := w.produce("p1", 4)
	c := w.host("c1")
	c.run(AgentConfig{Consume: []ConsumeConfig{{Service: "web", Leases: 1}}})
	c.consumes(1)
	w.produce("p2", 4)
	until(t, "the second producer is held", func() bool { return w.boxes[0].web().Share == 4 && w.boxes[1].web().Share == 4 })
	p1.stop()
	p1.IP("link set eth0 down")
	died := time.Now()
	until(t, "the producer is replaced", func() bool {
		s := c.status().Consumed
		return len(s) == 1 && s[0].Producer == "p2"
	})
	t.Logf("replaced after %v, the TTL is %v", time.Since(died), w.ttl)
	if _, producer := c.ask(service4); producer != "p2" {
		t.Errorf("a new connection went to %s, want p2", producer)
	}
}

// TestTakenOverProducerServesNoMore: a second host offers the same producer. Consumers follow it, and the first host
// accepts nothing of it any more, whoever still sends (D4).
func TestTakenOverProducerServesNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 2*time.Second)
	offer := func(h *host) {
		h.serve()
		h.run(AgentConfig{Produce: []ProduceConfig{{Service: "web", Name: "vm", Quota: 1, Underlay: h.at}}})
	}
	h1, h2 := w.host("h1"), w.host("h2")
	offer(h1)
	c := w.host("c1")
	c.run(AgentConfig{Consume: []ConsumeConfig{{Service: "web", Leases: 1}}})
	c.consumes(1)
	if _, at := c.ask(service4); at != "h1" {
		t.Fatalf("served by %s, want h1", at)
	}
	offer(h2)
	until(t, "the consumer has followed", func() bool {
		s := c.status().Consumed
		return len(s) == 1 && s[0].Host == h2.at && s[0].Epoch == 2
	})
	if _, at := c.ask(service6); at != "h2" {
		t.Errorf("served by %s, want h2", at)
	}
	until(t, "the first host has noticed", func() bool { return h1.status().Produced[0].Phase == "taken over" })
}

// TestProducerStaysWhereItLives: an agent that starts on a host where the producer was once, or may be one day, does not take
// it from the host where it is; it does when it has seen it alive.
func TestProducerStaysWhereItLives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2*time.Second)
	h1, h2 := w.produce("vm", 1), w.host("h2")
	h2.serve()
	holder := func() string {
		if p := w.boxes[0].web().Producers; len(p) == 1 {
			return p[0].Host
		}
		return ""
	}
	until(t, "the first host has it", func() bool { return holder() == h1.name })
	h2.run(AgentConfig{Produce: []ProduceConfig{{Service: "web", Name: "vm", Quota: 1, Underlay: h2.at, Check: h2.at + ":90"}}})
	until(t, "the second host has asked, and again", func() bool {
		for _, h := range w.boxes[0].Server().Hosts() {
			if h.Name == h2.name {
				return h.Datagrams > 2 // the first says hello
			}
		}
		return false
	})
	if phase := h2.status().Produced[0].Phase; phase != "asking" || holder() != h1.name {
		t.Fatalf("%s has the producer, the second host is %s", holder(), phase)
	}
	h2.Listen("tcp", h2.at+":90")
	until(t, "the second host has it, alive", func() bool { return holder() == h2.name })
}

// TestDrainedProducerKeepsItsConnections: no new connections go to it, the open one lives, and when that is closed the
// lease is given back.
func TestDrainedProducerKeepsItsConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Second)
	p1 := w.produce("p1", 4)
	c := w.host("c1")
	c.run(AgentConfig{Consume: []ConsumeConfig{{Service: "web", Leases: 1}}, DrainIdle: plugin.Duration(3 * time.Second)})
	c.consumes(1)
	conn, _ := c.ask(service4)
	w.produce("p2", 4)
	p1.stop()
	p1.run(AgentConfig{Produce: []ProduceConfig{{Service: "web", Name: "p1", Quota: 4, Underlay: p1.at, Drain: true}}})
	until(t, "a second lease stands in for the draining one", func() bool {
		s := c.status().Consumed
		return len(s) == 2 && s[0].Draining != s[1].Draining
	})
	for range 4 {
		if _, producer := c.ask(service4); producer != "p2" {
			t.Errorf("a new connection went to %s, want p2", producer)
		}
	}
	if producer := again(t, conn); producer != "p1" {
		t.Errorf("the open connection was answered by %s, want p1", producer)
	}
	conn.Close()
	until(t, "the draining lease is given back", func() bool { return w.boxes[0].web().Leased == 1 })
}

// TestRevokedLeaseEndsAtOnce: the operator's word reaches the host without waiting for a renewal.
func TestRevokedLeaseEndsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Minute)
	w.produce("p1", 4)
	c := w.host("c1")
	c.run(AgentConfig{Consume: []ConsumeConfig{{Service: "web", Leases: 1}}})
	c.consumes(1)
	var reply api.RevokeReply
	w.boxes[0].call(api.MethodRevoke, api.RevokeRequest{Service: "web", Producer: "p1"}, &reply)
	if reply.Revoked != 1 {
		t.Fatalf("%d leases revoked, want 1", reply.Revoked)
	}
	c.consumes(0)
	until(t, "the box knows that it is over", func() bool { return w.boxes[0].web().Leased == 0 })
}

// TestRoutesComeBack: the kernel takes routes away when the device is down for a moment; the running agent puts them back.
func TestRoutesComeBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Minute)
	w.produce("p1", 1)
	c := w.host("c1")
	c.run(AgentConfig{Consume: []ConsumeConfig{{Service: "web", Leases: 1}}})
	c.consumes(1)
	until(t, "the service is routed", func() bool { return c.routed(service4) && c.routed(service6) })
	c.IP("link set ratchet-vx down")
	if c.routed(service4) || c.routed(service6) {
		t.Fatal("the kernel has left the routes alone")
	}
	c.IP("link set ratchet-vx up")
	until(t, "the service is routed again", func() bool { return c.routed(service4) && c.routed(service6) })
}

// TestUnroutedIsSaidOnce: routes that cannot be put back, as while the device is down, are tried with each look and not logged with
// each.
func TestUnroutedIsSaidOnce(t *testing.T) {
	var log strings.Builder
	l := &loop{Agent: new(Agent), device: &overlay.Device{Name: "gone", Index: math.MaxInt32}}
	l.o.Log = slog.New(slog.NewTextHandler(&log, nil))
	c := &consuming{name: "web", addresses: []netip.Addr{netip.MustParseAddr(service4), netip.MustParseAddr(service6)}}
	for range 3 {
		c.keepRoutes(l)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
}

// TestRestartedAgentGoesOn: what a consumer's host has leased is served over a restart of its agent, also when no box is
// there to say which addresses are the service's.
func TestRestartedAgentGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Minute)
	w.produce("p1", 1)
	c := w.host("c1")
	config := AgentConfig{Consume: []ConsumeConfig{{Service: "web", Leases: 1}}}
	c.run(config)
	c.consumes(1)
	conn, _ := c.ask(service4)
	c.stop()
	w.boxes[0].down()
	c.IP("link delete ratchet-vx") // and with it its routes
	c.run(config)
	c.consumes(1)
	for _, address := range []string{service4, service6} {
		until(t, address+" goes over the overlay", func() bool { return c.routed(address) })
		c.ask(address)
	}
	if producer := again(t, conn); producer != "p1" {
		t.Errorf("the open connection was answered by %s, want p1", producer)
	}
}
