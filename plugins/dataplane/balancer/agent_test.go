package balancer

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/capacity"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// agent speaks for a server to some boxes: its application says how many connections it takes, and counts.
type agent struct {
	server *server
	app    net.Conn
	cancel context.CancelFunc
	done   chan struct{}
}

// reportable is where an agent can report to.
type reportable interface {
	Address() string
	Identity(name string) *control.Identity
}

// report starts an agent for a server. Its name at every box is web0, web1, …
func (s *server) report(t *testing.T, boxes ...reportable) *agent {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "capacity")
	var clients []*control.Client
	for _, b := range boxes {
		clients = append(clients, control.NewClient(control.ClientOptions{
			Address: b.Address(), Identity: b.Identity(s.name()), Dial: in(s.ns), ListenPacket: packetsIn(s.ns),
		}))
	}
	r, err := capacity.New(capacity.Options{Clients: clients, Config: capacity.Config{
		Interval: plugin.Duration(10 * time.Millisecond),
		Components: []capacity.ComponentConfig{{
			Name: "web", Application: &capacity.ApplicationConfig{Socket: socket, TTL: plugin.Duration(time.Hour)}, Handshake: plugin.Duration(50 * time.Millisecond),
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	app, err := net.Dial("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &agent{server: s, app: app, cancel: cancel, done: make(chan struct{})}
	for _, c := range clients {
		go c.Run(ctx)
	}
	go func() {
		defer close(a.done)
		r.Run(ctx)
	}()
	t.Cleanup(a.stop)
	return a
}

func (a *agent) stop() {
	a.cancel()
	<-a.done
	a.app.Close()
}

// say is the application's word: so many connections more.
func (a *agent) say(limit int) {
	fmt.Fprintf(a.app, "LIMIT=%d\nACCEPTED=%d\n", limit, a.server.accepted.Load())
}

func (s *server) name() string { return fmt.Sprintf("web%d", s.number) }

// left is the credit of a server at a box.
func (b *box) left(name string) int64 {
	for _, v := range b.part.running().showVIPs("web") {
		for _, o := range v.Backends {
			if o.Name == name {
				return o.Left
			}
		}
	}
	return -1
}

// until waits for something that the test has caused.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(15 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}

// alive checks that every connection still answers, and says how many do not.
func alive(t *testing.T, conns []*conn) (lost int) {
	t.Helper()
	for i, c := range conns {
		if err := c.alive(5 * time.Second); err != nil {
			t.Errorf("connection %d to backend %d is lost: %v", i, c.server, err)
			lost++
		}
	}
	return lost
}

// A full backend gets no new connection and keeps every old one; so do all of them at once; a silent one is full.
func TestCapacityDecides(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	b := w.newBox("10.0.0.1")
	var backends []Backend
	var agents []*agent
	for _, s := range w.backends {
		backends = append(backends, Backend{Host: s.name(), Weight: 1})
	}
	b.start(w.desired(func(v *VIP) { v.ReportTTL = time.Second }, backends...))
	w.client.IP("route add 10.0.0.80/32 via 10.0.0.1")
	if c, err := w.connect(500 * time.Millisecond); err == nil {
		t.Fatalf("backend %d got a connection before anybody had reported", c.server)
	}
	for i, limit := range []int{5, 40, 1000} {
		agents = append(agents, w.backends[i].report(t, b))
		agents[i].say(limit)
	}
	for i, limit := range []int64{5, 40, 1000} {
		until(t, "the credit is in force", func() bool { return b.left(w.backends[i].name()) == limit })
	}
	until(t, "the ring has all three", func() bool {
		for _, o := range b.part.running().showVIPs("web")[0].Backends {
			if o.State != "serving" {
				return false
			}
		}
		return true
	})
	// The applications do not say anything meanwhile: what the balancer has sent counts against the last word.
	var conns []*conn
	seen := map[int]int{}
	for range 150 {
		c, err := w.connect(3 * time.Second)
		if err != nil {
			t.Fatalf("%v; %v; %+v", err, seen, b.part.running().showVIPs(""))
		}
		conns = append(conns, c)
		seen[c.server]++
	}
	if seen[0] != 5 || seen[1] > 40 || seen[1] < 20 {
		t.Errorf("backends of 5, 40 and 1,000 got %v", seen)
	}
	for _, a := range agents {
		a.say(0)
	}
	for _, s := range w.backends {
		until(t, "all are full", func() bool { return b.left(s.name()) <= 0 })
	}
	if c, err := w.connect(2 * time.Second); err == nil {
		t.Errorf("backend %d got a connection while all are full", c.server)
	}
	alive(t, conns)

	// Two have room again, and one of them falls silent.
	agents[0].say(100)
	agents[1].say(100)
	for _, s := range w.backends[:2] {
		until(t, "two have room again", func() bool { return b.left(s.name()) == 100 })
	}
	agents[0].stop()
	until(t, "the silent one is stale", func() bool {
		o := b.part.running().showVIPs("web")[0].Backends[0]
		return o.State == "stale" && o.ReportAge > 1.02 // the program's clock has ticks of some milliseconds
	})
	for range 20 {
		c, err := w.connect(3 * time.Second)
		if err != nil {
			t.Fatalf("%v; %+v", err, b.part.running().showVIPs(""))
		}
		if conns = append(conns, c); c.server != 1 {
			t.Errorf("backend %d got a connection, and only 1 has room", c.server)
		}
	}
	alive(t, conns)
	for _, c := range conns {
		c.Close()
	}
}
