package group_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
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
	"github.com/ratchetos/ratchet/plugins/dataplane/group"
	"github.com/ratchetos/ratchet/plugins/dataplane/group/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

const (
	address  = "10.9.0.1"
	address6 = "2001:db8:9::1"
	// soon bounds what a test waits for.
	soon = 15 * time.Second
)

// world is a switch with boxes, members' hosts and clients' hosts on it.
type world struct {
	t  *testing.T
	sw *nettest.Switch
}

func newWorld(t *testing.T) *world { return &world{t: t, sw: nettest.NewSwitch(t)} }

func (w *world) host(last int) *nettest.Namespace {
	n := nettest.New(w.t)
	w.sw.Plug(nettest.End{On: n, Name: "eth0", Addresses: []string{fmt.Sprintf("192.0.2.%d/24", last), fmt.Sprintf("2001:db8:2::%d/64", last)}})
	return n
}

// box is one control plane.
type box struct {
	*controltest.Box
	t     *testing.T
	ns    *nettest.Namespace
	state *controltest.MemoryState
	part  *group.Part
	lease time.Duration
	hosts map[string]bool // whose agents were started
}

func (w *world) box(last int, lease time.Duration) *box {
	b := w.stopped(last, lease)
	b.start()
	return b
}

// stopped is a box that does not serve yet.
func (w *world) stopped(last int, lease time.Duration) *box {
	b := &box{t: w.t, hosts: map[string]bool{}, ns: w.host(last), state: controltest.NewMemoryState(), lease: lease}
	b.Box = controltest.Server(w.t, controltest.Options{Listen: func(at string) (net.Listener, *net.UDPConn, error) {
		if at == "" {
			at = fmt.Sprintf("192.0.2.%d:7400", last)
		}
		var l net.Listener
		var p net.PacketConn
		var err, err2 error
		b.ns.Run(func() {
			l, err = net.Listen("tcp", at)
			p, err2 = net.ListenPacket("udp", at)
		})
		if err := errors.Join(err, err2); err != nil {
			return nil, nil, err
		}
		return l, p.(*net.UDPConn), nil
	}})
	return b
}

func (b *box) start() {
	b.part = group.New(group.Options{State: b.state, Control: b.Server(), Log: logger(b.t)})
	check(b.t, b.part.Start(b.t.Context(), group.Desired{Lease: b.lease}))
	b.Serve()
}

// restart is the end of the plugin's process and a new one.
func (b *box) restart() {
	b.Stop()
	check(b.t, b.part.Stop(b.t.Context()))
	b.Restart()
	b.start()
}

func (b *box) call(method string, request, reply any) {
	b.t.Helper()
	check(b.t, b.try(method, request, reply))
}

// member is a host with an instance in its own stack, which answers with its name.
type member struct {
	*nettest.Namespace
	name string
	vni  uint32
	at   netip.Addr
}

func (w *world) member(i int) *member {
	m := &member{Namespace: w.host(10 + i), name: fmt.Sprintf("m%d", i), vni: uint32(1000 + i), at: netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)})}
	m.Run(func() {
		_, err := overlay.Ensure(overlay.Options{})
		check(w.t, err)
	})
	m.IP("address add "+address+"/32 dev ratchet-vx", "address add "+address6+"/128 dev ratchet-vx nodad")
	for _, a := range []string{address, address6} {
		l := m.Listen("tcp", net.JoinHostPort(a, "80"))
		w.t.Cleanup(func() { l.Close() })
		go serve(l, m.name)
		p := m.ListenPacket("udp", net.JoinHostPort(a, "53"))
		w.t.Cleanup(func() { p.Close() })
		go answer(p, m.name)
	}
	return m
}

// serve answers each line with the member's name and what it got, until the client has enough.
func serve(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			in := bufio.NewReaderSize(c, 1<<20)
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				fmt.Fprintf(c, "%s %d\n", name, len(line))
			}
		}()
	}
}

func answer(p net.PacketConn, name string) {
	b := make([]byte, 65536)
	for {
		n, from, err := p.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = p.WriteTo(fmt.Appendf(nil, "%s %d", name, n), from)
	}
}

// client is a host with an agent.
type client struct {
	*nettest.Namespace
	t     *testing.T
	name  string
	pins  string
	boxes []*box
	stop  func()
}

// client makes a host whose agent follows the boxes; it runs until the test's end or stop.
func (w *world) client(last int, boxes ...*box) *client {
	c := &client{Namespace: w.host(last), t: w.t, name: fmt.Sprintf("c%d", last), pins: bpffs(w.t), boxes: boxes}
	c.start()
	return c
}

func (c *client) start() {
	var clients []*control.Client
	for _, b := range c.boxes {
		b.hosts[c.name] = true
		clients = append(clients, b.Client(c.name, control.ClientOptions{
			Dial: func(_ context.Context, network, at string) (conn net.Conn, err error) {
				c.Run(func() { conn, err = net.DialTimeout(network, at, time.Second) })
				return conn, err
			},
			ListenPacket: func(network string) (p net.PacketConn, err error) {
				c.Run(func() { p, err = net.ListenPacket(network, ":0") })
				return p, err
			},
		}))
	}
	a := group.NewAgent(group.AgentOptions{Clients: clients, Pins: c.pins, Log: logger(c.t)})
	for i, b := range c.boxes {
		b.Run(clients[i])
	}
	c.stop = c.Go(func(ctx context.Context) {
		if err := a.Run(ctx); err != nil {
			c.t.Errorf("agent of %s: %v", c.name, err)
		}
	})
}

// ask opens a connection, says something long and returns who answered.
func (c *client) ask(to string) (string, error) {
	conn, err := c.dial("tcp", net.JoinHostPort(to, "80"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return say(conn, 100_000)
}

func (c *client) dial(network, to string) (conn net.Conn, err error) {
	c.Run(func() { conn, err = net.DialTimeout(network, to, 500*time.Millisecond) })
	return conn, err
}

// say sends n bytes and returns who answered.
func say(conn net.Conn, n int) (string, error) {
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.WriteString(conn, strings.Repeat("x", n-1)+"\n"); err != nil {
		return "", err
	}
	var name string
	var got int
	if _, err := fmt.Fscanf(conn, "%s %d\n", &name, &got); err != nil {
		return "", err
	}
	if got != n {
		return "", fmt.Errorf("%s got %d of %d bytes", name, got, n)
	}
	return name, nil
}

// datagram sends one datagram of n bytes from a new port.
func (c *client) datagram(to string, n int) (string, error) {
	conn, err := c.dial("udp", net.JoinHostPort(to, "53"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write(make([]byte, n)); err != nil {
		return "", err
	}
	b := make([]byte, 64)
	size, err := conn.Read(b)
	if err != nil {
		return "", err
	}
	var name string
	var got int
	if _, err := fmt.Sscanf(string(b[:size]), "%s %d", &name, &got); err != nil {
		return "", err
	}
	if got != n {
		return "", fmt.Errorf("%s got %d of %d bytes", name, got, n)
	}
	return name, nil
}

// until repeats f until it says that it is so.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	end := time.After(soon)
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !f() {
		select {
		case <-end:
			t.Fatalf("not within %s: %s", soon, what)
		case <-again.C:
		}
	}
}

// bpffs mounts one for the test.
func bpffs(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "bpf")
	check(t, os.Mkdir(dir, 0o700))
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs (tests of the dataplane need root): %v", err)
	}
	t.Cleanup(func() { check(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func logger(t *testing.T) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// try makes a management call, as core does.
func (b *box) try(method string, request, reply any) error {
	in, err := json.Marshal(request)
	if err != nil {
		return err
	}
	out, err := b.part.Invoke(b.t.Context(), method, in)
	if err != nil || reply == nil {
		return err
	}
	return json.Unmarshal(out, reply)
}

func (b *box) add(g string, m *member) {
	b.t.Helper()
	b.call(api.MethodAdd, api.AddRequest{Group: g, Member: m.name, VNI: m.vni, Host: m.at}, nil)
}

func (b *box) create(name string, addresses ...string) {
	b.t.Helper()
	r := api.CreateRequest{Name: name}
	for _, a := range addresses {
		r.Addresses = append(r.Addresses, netip.MustParseAddr(a))
	}
	b.call(api.MethodCreate, r, nil)
}

// settled waits until every client has the latest version.
func (b *box) settled() {
	b.t.Helper()
	until(b.t, "all clients have the latest version", func() bool {
		var r api.ClientsReply
		b.call(api.MethodClients, struct{}{}, &r)
		for _, c := range r.Clients {
			if c.Applied != r.Version || c.Lapsed {
				return false
			}
		}
		return len(r.Clients) == len(b.hosts)
	})
}
