package balancer

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
	"github.com/ratchetos/ratchet/plugins/dataplane/capacity"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
)

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkUpdates changes VIPs 100,000 times a minute: a thousand of them with twenty backends each, one weight at a
// time, in calls of fifty. ns-lag-max is how far the rings were behind, cores what it cost.
func BenchmarkUpdates(b *testing.B) {
	const vips, backends, each = 1000, 20, 50
	p := newPart(b, Options{}, many(vips, backends))
	r := p.running()
	until(b, "the first rings", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.meters.ring.total >= vips
	})
	r.mu.Lock()
	r.meters.ring = meter{}
	r.mu.Unlock()
	gap := time.Minute * each / 102_000
	before, began := cpu(b), time.Now()
	n := 0
	for b.Loop() {
		// By the schedule: what a busy machine holds up is made up for.
		time.Sleep(time.Until(began.Add(time.Duration(n/each) * gap)))
		changes := make([]api.Weight, each)
		for i := range changes {
			n++
			changes[i] = api.Weight{VIP: fmt.Sprintf("vip%d", n*7%vips), Backend: netip.AddrFrom4([4]byte{127, 1, 0, byte(n % backends)}).String(), Weight: weight(uint32(1 + n%9))}
		}
		if err := r.setWeights(b.Context(), changes); err != nil {
			b.Fatal(err)
		}
	}
	spent := time.Since(began)
	used := cpu(b) - before
	r.mu.Lock()
	defer r.mu.Unlock()
	b.ReportMetric(float64(n)/spent.Minutes(), "updates/min")
	b.ReportMetric(float64(used)/float64(spent), "cores")
	b.ReportMetric(float64(r.meters.ring.quantile(0.5)), "ns-lag")
	b.ReportMetric(float64(r.meters.ring.quantile(1)), "ns-lag-max")
}

// BenchmarkEffect is the way of a host's word: from the application's datagram over the agent, the sealed channel and the
// box until the program sees the credit.
func BenchmarkEffect(b *testing.B) {
	box := controltest.Server(b, controltest.Options{})
	d := many(1, 1)
	d.VIPs[0].Backends[0].Host = "web0"
	p := newPart(b, Options{Control: box.Server()}, d)
	box.Serve()
	client := control.NewClient(control.ClientOptions{Address: box.Address(), Identity: box.Identity("web0")})
	socket := filepath.Join(b.TempDir(), "capacity")
	reporter, err := capacity.New(capacity.Options{Clients: []*control.Client{client}, Config: capacity.Config{
		Components: []capacity.ComponentConfig{{Name: "web", Application: &capacity.ApplicationConfig{Socket: socket, TTL: plugin.Duration(time.Hour)}, Handshake: plugin.Duration(10 * time.Millisecond)}},
	}})
	if err != nil {
		b.Fatal(err)
	}
	app, err := net.Dial("unixgram", socket)
	if err != nil {
		b.Fatal(err)
	}
	defer app.Close()
	done := make(chan struct{}, 2)
	go func() { client.Run(b.Context()); done <- struct{}{} }()
	go func() { reporter.Run(b.Context()); done <- struct{}{} }()
	b.Cleanup(func() { <-done; <-done })
	r := p.running()
	id := r.vips[0].members[0].id
	say := func(n int64) time.Duration {
		began := time.Now()
		fmt.Fprintf(app, "LIMIT=%d\nACCEPTED=0\n", n)
		for r.table.CreditOf(id).Left != n {
			if time.Since(began) > 10*time.Second {
				b.Fatalf("credit is %+v, want %d", r.table.CreditOf(id), n)
			}
			time.Sleep(20 * time.Microsecond)
		}
		return time.Since(began)
	}
	say(1)
	var m meter
	i := int64(1)
	for b.Loop() {
		i++
		m.note(say(i))
		time.Sleep(5 * time.Millisecond) // reports that follow one another at once wait for their turn
	}
	b.ReportMetric(float64(m.quantile(0.5)), "ns-effect")
	b.ReportMetric(float64(m.quantile(0.99)), "ns-effect-p99")
	r.mu.Lock()
	defer r.mu.Unlock()
	b.ReportMetric(float64(r.meters.effect.quantile(0.5)), "ns-box")
}

// BenchmarkFlowSync is the way of a connection to the peer: from the program's event on one box until it is in the other
// box's table and acknowledged; and how many a second.
func BenchmarkFlowSync(b *testing.B) {
	const each = 240
	boxes := []*controltest.Box{controltest.Server(b, controltest.Options{}), controltest.Server(b, controltest.Options{})}
	var parts []*Part
	for i, box := range boxes {
		state := controltest.NewMemoryState()
		d := many(1, 4)
		d.Flows = 1 << 20
		d.Peers = []Peer{{Name: fmt.Sprintf("box%d", 1-i), Address: boxes[1-i].Address()}}
		state.Put(b.Context(), identityKey(d.Peers[0].Name), boxes[1-i].File(fmt.Sprintf("box%d", i)))
		p := New(Options{State: state, Control: box.Server(), Link: func(string) (int, int, bool) { return 0, 0, false }})
		box.Serve()
		if err := p.Start(b.Context(), d); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { p.Stop(b.Context()) })
		parts = append(parts, p)
	}
	from, to := parts[0].running(), parts[1].running()
	until(b, "the peers are in step", func() bool { s := from.showPeers(from.part.now()); return s[0].Alive && s[0].InStep })
	backend := from.vips[0].members[0].id
	n, began := 0, time.Now()
	for b.Loop() {
		events := make([]table.FlowEvent, each)
		for i := range events {
			n++
			events[i] = table.FlowEvent{
				Kind: table.FlowEstablished, VIP: from.vips[0].id, Backend: backend, Protocol: 6,
				Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 1024), Local: netip.AddrPortFrom(from.vips[0].Key.Address, 80),
			}
		}
		from.tell(events)
		for from.showPeers(from.part.now())[0].Waiting > each {
			time.Sleep(50 * time.Microsecond)
		}
	}
	until(b, "all are acknowledged", func() bool { return from.showPeers(from.part.now())[0].Waiting == 0 })
	spent := time.Since(began)
	if got := to.table.Count().ByState[table.Established]; got != min(n, got) || got == 0 {
		b.Errorf("%d of %d flows are in the peer's table", got, n)
	}
	b.ReportMetric(float64(n)/spent.Seconds(), "flows/s")
	p := from.peers.all["box1"]
	p.mu.Lock()
	defer p.mu.Unlock()
	b.ReportMetric(float64(p.lag.quantile(0.5)), "ns-sync")
	b.ReportMetric(float64(p.lag.quantile(0.99)), "ns-sync-p99")
}
