package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease/engine"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// soon bounds what a test waits for.
const soon = 15 * time.Second

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for something that other goroutines bring about.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	limit := time.NewTimer(soon)
	defer limit.Stop()
	for again := time.NewTicker(5 * time.Millisecond); ; {
		if done() {
			again.Stop()
			return
		}
		select {
		case <-again.C:
		case <-limit.C:
			t.Fatalf("not after %v: %s", soon, what)
		}
	}
}

// world is boxes on the loopback of the test's own namespace, and hosts on a switch: the control channel and the data
// are two networks, each of which can fail alone.
type world struct {
	t     testing.TB
	sw    *nettest.Switch
	ttl   time.Duration
	boxes []*box
	hosts int
}

func newWorld(t testing.TB, boxes int, ttl time.Duration) *world {
	w := &world{t: t, sw: nettest.NewSwitch(t), ttl: ttl}
	for range boxes {
		b := &box{w: w, state: controltest.NewMemoryState()}
		b.Box = controltest.Server(t, controltest.Options{})
		b.start()
		w.boxes = append(w.boxes, b)
	}
	return w
}

// box is one leasing agent.
type box struct {
	*controltest.Box
	w     *world
	state *controltest.MemoryState
	part  *Part
}

func (b *box) start() {
	b.part = New(Options{State: b.state, Control: b.Server(), Log: logger(b.w.t)})
	check(b.w.t, b.part.Start(b.w.t.Context(), Desired{Services: []engine.Service{{
		Name: "web", Addresses: []netip.Addr{netip.MustParseAddr(service4), netip.MustParseAddr(service6)}, VNI: 7, TTL: b.w.ttl,
	}}}))
	b.Serve()
}

// down ends the plugin's process, up starts a new one.
func (b *box) down() {
	b.Stop()
	check(b.w.t, b.part.Stop(b.w.t.Context()))
}

func (b *box) up() {
	b.Restart()
	b.start()
}

func (b *box) call(method string, request, reply any) {
	b.w.t.Helper()
	in, err := json.Marshal(request)
	check(b.w.t, err)
	out, err := b.part.Invoke(b.w.t.Context(), method, in)
	check(b.w.t, err)
	check(b.w.t, json.Unmarshal(out, reply))
}

// web is what a box knows of the service.
func (b *box) web() (s api.Service) {
	b.w.t.Helper()
	b.call(api.MethodShow, api.Name{Name: "web"}, &s)
	return s
}

// host is one with an agent.
type host struct {
	*nettest.Namespace
	w     *world
	name  string
	at    string
	pins  string
	ids   [][]byte
	agent *Agent
	stop  func()
	// late has the agent begin once every box knows the host: who has met one box alone takes its leases from that.
	late bool
}

func (w *world) host(name string) *host {
	w.t.Helper()
	w.hosts++
	h := &host{Namespace: nettest.New(w.t), w: w, name: name, at: fmt.Sprintf("10.0.0.%d", w.hosts), pins: bpffs(w.t)}
	w.sw.Plug(nettest.End{On: h.Namespace, Name: "eth0", Addresses: []string{h.at + "/24", fmt.Sprintf("fd00::%d/64", w.hosts)}})
	for _, b := range w.boxes {
		h.ids = append(h.ids, b.File(name))
	}
	return h
}

// run starts the agent's process.
func (h *host) run(c AgentConfig) {
	h.w.t.Helper()
	c.Check(func(path, format string, args ...any) { h.w.t.Errorf(path+": "+format, args...) })
	var clients []*control.Client
	for i, b := range h.w.boxes {
		id, err := control.ParseIdentity(h.ids[i])
		check(h.w.t, err)
		clients = append(clients, b.Client(h.name, control.ClientOptions{Identity: id}))
	}
	h.agent = NewAgent(AgentOptions{
		Log: logger(h.w.t), Clients: clients, Host: h.name, Pins: h.pins, Config: c,
		Dial: func(ctx context.Context, network, address string) (c net.Conn, err error) {
			h.Run(func() { c, err = (&net.Dialer{}).DialContext(ctx, network, address) })
			return c, err
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	for _, c := range clients {
		go func() { _ = c.Run(ctx) }()
	}
	if h.late {
		for _, c := range clients {
			until(h.w.t, h.name+" has joined every box", c.Joined)
		}
	}
	agent := h.agent
	stop := h.Go(func(ctx context.Context) {
		if err := agent.Run(ctx); err != nil {
			h.w.t.Errorf("run the agent of %s: %v", h.name, err)
		}
	})
	h.stop = func() { cancel(); stop() }
	h.w.t.Cleanup(h.stop)
}

func (h *host) status() HostStatus {
	h.w.t.Helper()
	s, err := h.agent.Status(h.w.t.Context())
	check(h.w.t, err)
	return s
}

// routed says whether an address is reached over the overlay.
func (h *host) routed(address string) (over bool) {
	h.Run(func() {
		way, err := overlay.PathTo(netip.MustParseAddr(address))
		over = err == nil && way.Index == h.Index("ratchet-vx")
	})
	return over
}

// produce makes a host with one producer, which answers TCP and UDP with its name.
func (w *world) produce(name string, quota uint32) *host {
	w.t.Helper()
	h := w.host(name)
	h.serve()
	h.run(AgentConfig{Produce: []ProduceConfig{{Service: "web", Name: name, Quota: quota, Underlay: h.at}}})
	return h
}

// serve answers as an instance in the host's own stack.
func (h *host) serve() {
	h.IP("address add "+service4+"/32 dev lo", "address add "+service6+"/128 dev lo nodad")
	for _, a := range []string{service4, service6} {
		l := h.Listen("tcp", net.JoinHostPort(a, "80"))
		h.w.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					b := make([]byte, 64)
					for {
						n, err := c.Read(b)
						if err != nil {
							return
						}
						fmt.Fprintf(c, "%s:%s", h.name, b[:n])
					}
				}()
			}
		}()
	}
}

// ask opens a connection and asks once.
func (h *host) ask(address string) (c net.Conn, producer string) {
	h.w.t.Helper()
	var err error
	h.Run(func() { c, err = net.DialTimeout("tcp", net.JoinHostPort(address, "80"), soon) })
	check(h.w.t, err)
	h.w.t.Cleanup(func() { c.Close() })
	return c, again(h.w.t, c)
}

// again asks on an open connection.
func again(t testing.TB, c net.Conn) (producer string) {
	t.Helper()
	producer, err := answer(c)
	check(t, err)
	return producer
}

func answer(c net.Conn) (producer string, err error) {
	c.SetDeadline(time.Now().Add(soon))
	if _, err := io.WriteString(c, "?"); err != nil {
		return "", err
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	producer, _, _ = strings.Cut(string(b[:n]), ":")
	return producer, err
}

// consumes waits until a host holds that many leases.
func (h *host) consumes(n int) {
	h.w.t.Helper()
	until(h.w.t, fmt.Sprintf("%s holds %d leases", h.name, n), func() bool { return len(h.status().Consumed) == n })
}

// bpffs mounts one that lasts as long as the test.
func bpffs(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bpf")
	check(t, os.Mkdir(dir, 0o700))
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs (tests of the dataplane need root): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// accepted is how many packets the host's gate has let through: counted where they arrive, whatever a busy machine
// does to those who read them.
func (h *host) accepted() int { return int(h.status().Gate.Accepted) }

// stream returns a function that sends n datagrams to the service, one a millisecond, and says how many it has sent.
func (h *host) stream() func(n int) (sent int) {
	h.w.t.Helper()
	conn := h.Dial("udp", net.JoinHostPort(service4, "9"))
	h.w.t.Cleanup(func() { conn.Close() })
	sent := 0
	tick := time.NewTicker(time.Millisecond)
	h.w.t.Cleanup(tick.Stop)
	return func(n int) int {
		for range n {
			<-tick.C
			if _, err := conn.Write([]byte("datagram")); err == nil {
				sent++
			}
		}
		return sent
	}
}
