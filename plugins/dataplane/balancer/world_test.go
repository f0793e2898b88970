package balancer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
)

// vipAddress is where clients connect to.
var vipAddress = netip.MustParseAddr("10.0.0.80")

// world is a client, balancers and backends on one switch. Backends answer the client themselves.
type world struct {
	t        *testing.T
	lan      *nettest.Switch
	client   *nettest.Namespace
	backends []*server
}

func newWorld(t *testing.T, backends int) *world {
	w := &world{t: t, lan: nettest.NewSwitch(t), client: nettest.New(t)}
	w.plug(w.client, "10.0.0.9/24", "")
	for i := range backends {
		w.backends = append(w.backends, w.newServer(i))
	}
	return w
}

func (w *world) plug(ns *nettest.Namespace, address, mac string) {
	port := w.lan.Plug(nettest.End{On: ns, Name: "data0", MAC: mac, Addresses: []string{address}})
	ns.NoOffload("data0")
	w.receiveXDP(port)
}

// receiveXDP lets a port of the switch take what a program at its other end transmits: veth wakes the receiver of
// XDP_TX only if it has a program as well.
func (w *world) receiveXDP(port string) {
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { pass.Close() })
	index := w.lan.Index(port)
	w.lan.Run(func() {
		l, err := link.AttachXDP(link.XDPOptions{Program: pass, Interface: index})
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { l.Close() })
	})
}

// server is a backend: a TCP server behind a decapsulator, which says its number and then echoes.
type server struct {
	ns       *nettest.Namespace
	number   int
	address  netip.Addr
	accepted atomic.Uint64
	open     atomic.Int64
}

func (w *world) newServer(i int) *server {
	s := &server{ns: nettest.New(w.t), number: i, address: netip.AddrFrom4([4]byte{10, 0, 0, byte(20 + i)})}
	w.plug(s.ns, s.address.String()+"/24", "")
	s.decapsulate(w.t)
	s.ns.IP("address add " + vipAddress.String() + "/32 dev lo")
	l := s.ns.Listen("tcp", netip.AddrPortFrom(vipAddress, 80).String())
	// Connections end with the test: when a namespace is gone no FIN comes from it.
	var all sync.WaitGroup
	ctx, end := context.WithCancel(context.Background())
	w.t.Cleanup(func() {
		l.Close()
		end()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			s.open.Add(1)
			all.Go(func() {
				defer s.open.Add(-1)
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				fmt.Fprintf(c, "%03d\n", s.number)
				io.Copy(c, c)
			})
		}
	})
	return s
}

// decapsulate gives the inner packets of IPIP to the namespace's own stack, over a tun device.
func (s *server) decapsulate(t *testing.T) {
	// The VIP is everybody's: nobody but the balancer may answer for it.
	s.ns.Sysctl("net/ipv4/conf/all/arp_ignore", "1")
	s.ns.Sysctl("net/ipv4/conf/all/arp_announce", "2")
	s.ns.Sysctl("net/ipv4/conf/all/rp_filter", "0")
	s.ns.Sysctl("net/ipv4/conf/default/rp_filter", "0")
	var tun *os.File
	var raw int
	s.ns.Run(func() {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		var request struct {
			name  [unix.IFNAMSIZ]byte
			flags uint16
			_     [22]byte
		}
		copy(request.name[:], "decap0")
		request.flags = unix.IFF_TUN | unix.IFF_NO_PI
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
			t.Fatal(errno)
		}
		tun = os.NewFile(uintptr(fd), "decap0")
		if raw, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_IPIP); err != nil {
			t.Fatal(err)
		}
	})
	s.ns.IP("link set decap0 up")
	s.ns.Sysctl("net/ipv4/conf/decap0/rp_filter", "0")
	// A socket of its own thread: closing it from elsewhere would not wake recvfrom.
	timeout := unix.Timeval{Usec: 50_000}
	unix.SetsockoptTimeval(raw, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer unix.Close(raw)
		defer tun.Close()
		b := make([]byte, 65536)
		for ctx.Err() == nil {
			n, _, err := unix.Recvfrom(raw, b, 0)
			if err == nil && n > 20 {
				tun.Write(b[int(b[0]&15)*4 : n])
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// conn is a client's connection through the VIP.
type conn struct {
	net.Conn
	server int
}

var errRefused = errors.New("refused")

// connect opens a connection from the client to the VIP and learns which backend it got.
func (w *world) connect(timeout time.Duration) (*conn, error) {
	var c net.Conn
	var err error
	w.client.Run(func() {
		c, err = (&net.Dialer{Timeout: timeout}).Dial("tcp", netip.AddrPortFrom(vipAddress, 80).String())
	})
	if err != nil {
		return nil, errors.Join(errRefused, err)
	}
	one := &conn{Conn: c}
	c.SetDeadline(time.Now().Add(timeout))
	if _, err := fmt.Fscanf(c, "%03d\n", &one.server); err != nil {
		c.Close()
		return nil, fmt.Errorf("connection is open and nobody speaks: %w", err)
	}
	return one, nil
}

// alive sends a word through a connection and waits for its echo.
func (c *conn) alive(timeout time.Duration) error {
	c.SetDeadline(time.Now().Add(timeout))
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	b := make([]byte, 4)
	_, err := io.ReadFull(c, b)
	return err
}

// box is a balancer with its control channel.
type box struct {
	*controltest.Box
	t       *testing.T
	ns      *nettest.Namespace
	part    *Part
	state   *controltest.MemoryState
	pins    string
	address string
}

// newBox makes a balancer that is not started. Its pins last until the end of the test.
func (w *world) newBox(address string) *box {
	b := &box{t: w.t, ns: nettest.New(w.t), state: controltest.NewMemoryState(), address: address, pins: bpffs(w.t)}
	w.plug(b.ns, address+"/24", "")
	b.Box = controltest.Server(w.t, controltest.Options{State: b.state, Listen: b.listen})
	b.make()
	return b
}

func (b *box) listen(address string) (l net.Listener, p *net.UDPConn, err error) {
	if address == "" {
		address = b.address + ":7400"
	}
	b.ns.Run(func() {
		if l, err = net.Listen("tcp", address); err != nil {
			return
		}
		var at *net.UDPAddr
		if at, err = net.ResolveUDPAddr("udp", address); err == nil {
			p, err = net.ListenUDP("udp", at)
		}
	})
	return l, p, err
}

// make makes the part, over the present control server.
func (b *box) make() {
	b.part = New(Options{
		Log: slog.New(slog.NewTextHandler(testLog{b.t}, &slog.HandlerOptions{Level: slog.LevelInfo})), Pins: b.pins, State: b.state, Control: b.Server(),
		Link: func(name string) (int, int, bool) { return b.ns.Index(name), 1500, true },
		Dial: in(b.ns), In: b.ns.Run, ListenPacket: packetsIn(b.ns),
	})
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(string(p[:len(p)-1]))
	return len(p), nil
}

func in(ns *nettest.Namespace) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (c net.Conn, err error) {
		ns.Run(func() { c, err = (&net.Dialer{}).DialContext(ctx, network, address) })
		return c, err
	}
}

func packetsIn(ns *nettest.Namespace) func(network string) (net.PacketConn, error) {
	return func(network string) (p net.PacketConn, err error) {
		ns.Run(func() { p, err = net.ListenPacket(network, ":0") })
		return p, err
	}
}

// start starts the part; the test's end stops it.
func (b *box) start(d Desired) {
	b.t.Helper()
	b.Serve()
	var err error
	b.ns.Run(func() { err = b.part.Start(b.t.Context(), d) })
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { b.part.Stop(context.Background()) })
}

// desired is one VIP with these backends.
func (w *world) desired(change func(*VIP), backends ...Backend) Desired {
	v := VIP{
		Name: "web", Component: "web", ReportTTL: 2 * time.Second, Backends: backends,
		Key: table.VIP{Address: vipAddress, Protocol: table.TCP, First: 80, Last: 80, Exhausted: table.Reset},
	}
	if change != nil {
		change(&v)
	}
	return Desired{
		Interface: "data0", Flows: 8192, MTU: 1500, Source4: netip.MustParseAddr("10.0.0.1"),
		Announce: Announce{Beat: 20 * time.Millisecond}, VIPs: []VIP{v},
	}
}

// bpffs mounts a bpffs for the test.
func bpffs(t *testing.T) string {
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount bpffs: %v", err)
		}
	})
	return dir
}
