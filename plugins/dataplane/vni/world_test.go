package vni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
)

// The world of the end-to-end tests: a box and hosts on a control network, the hosts and a client on a data network,
// each host with instances. Agents are processes of their own, so that they can be stopped and killed.
const (
	theVNI  = 71
	theMAC  = "02:00:00:00:00:71"
	theAddr = "10.1.0.7"
	wait    = 20 * time.Second
)

type world struct {
	t             testing.TB
	control, data *nettest.Switch
	client        *nettest.Namespace
	boxes         []*box
	hosts         []*host
	segment       bool
	address       string // the VNI's
	leader        int    // the box that is asked
	interfaces    []failover.Interface
	mu            sync.Mutex
	at            Location // what the groups were told last
	since         time.Time
	heard         []Location    // all of that
	news          chan struct{} // closed and replaced when at changes
}

type box struct {
	*controltest.Box
	ns    *nettest.Namespace
	state State
	part  *Part
}

type host struct {
	w           *world
	name        string
	n           int
	ns          *nettest.Namespace
	controlPort string
	pins        string
	identities  []string
	ports       []PortConfig
	agent       *exec.Cmd
}

// instance holds an end of the VNI.
type instance struct {
	receiver
	holder *nettest.Instance
}

func newWorld(t testing.TB, hosts, boxes int) *world {
	w := &world{
		t: t, control: nettest.NewSwitch(t), data: nettest.NewSwitch(t), client: nettest.New(t),
		news: make(chan struct{}), address: theAddr,
	}
	w.data.Plug(nettest.End{On: w.client, Name: "eth0", Addresses: []string{"10.8.0.100/24"}})
	for i := range boxes {
		b := &box{ns: nettest.New(t), state: controltest.NewMemoryState()}
		w.control.Plug(nettest.End{On: b.ns, Name: "eth0", Addresses: []string{fmt.Sprintf("10.9.0.%d/24", 101+i)}})
		w.boxes = append(w.boxes, b)
		b.Box = controltest.Server(t, controltest.Options{State: controltest.NewMemoryState(), Listen: func(string) (net.Listener, *net.UDPConn, error) {
			var l net.Listener
			var p net.PacketConn
			var err, err2 error
			b.ns.Run(func() {
				l, err = net.Listen("tcp", fmt.Sprintf("10.9.0.%d:7400", 101+i))
				p, err2 = net.ListenPacket("udp", fmt.Sprintf("10.9.0.%d:7400", 101+i))
			})
			if err != nil || err2 != nil {
				return nil, nil, errors.Join(err, err2)
			}
			return l, p.(*net.UDPConn), nil
		}})
	}
	for i := range hosts {
		h := &host{w: w, name: fmt.Sprintf("h%d", i+1), n: i + 1, ns: nettest.New(t), pins: bpffs(t)}
		h.controlPort = w.control.Plug(nettest.End{On: h.ns, Name: "ctl", Addresses: []string{fmt.Sprintf("10.9.0.%d/24", i+1)}})
		w.data.Plug(nettest.End{On: h.ns, Name: "eth0", Addresses: []string{fmt.Sprintf("10.8.0.%d/24", i+1)}})
		for k, b := range w.boxes {
			path := filepath.Join(t.TempDir(), fmt.Sprintf("box%d.pem", k))
			if err := os.WriteFile(path, b.File(h.name), 0o600); err != nil {
				t.Fatal(err)
			}
			h.identities = append(h.identities, path)
		}
		w.hosts = append(w.hosts, h)
	}
	return w
}

// bpffs mounts one that lasts as long as the test.
func bpffs(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0700"); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// orphan makes a process end when this one does, however it ends: its standard input ends then. (A signal at the
// parent's death would come when the thread ends that started it.)
func orphan(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
}

func executable(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// instance makes a process with a network namespace of its own and the VNI's end in it.
func (h *host) instance(name string) *instance {
	h.w.t.Helper()
	i := h.ns.Instance(h.name + "/" + name)
	device := fmt.Sprintf("v%d-%s", theVNI, name)
	i.Plug(device, nettest.End{Name: "eth0", MAC: theMAC, Addresses: []string{theAddr + "/24"}})
	h.ports = append(h.ports, PortConfig{VNI: theVNI, Instance: name, Kind: kindVeth, Device: device})
	return &instance{receiver: receiver{i.Receiver}, holder: i}
}

// serve starts the control plane of a box.
func (w *world) serve(n int, c Config) {
	w.t.Helper()
	b := w.boxes[n]
	b.part = New(Options{
		Log: w.log("box"), State: b.state, Control: b.Server(),
		Moved: func(_ context.Context, l Location) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if l.Epoch != w.at.Epoch || l.Up != w.at.Up {
				w.at, w.since = l, time.Now()
				w.heard = append(w.heard, l)
				close(w.news)
				w.news = make(chan struct{})
			}
			return nil
		},
	})
	d := Parse("vnis", c, nil)
	d.Interfaces = w.interfaces
	if err := b.part.Start(w.t.Context(), d); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = b.part.Stop(context.Background()) })
	b.Serve()
}

func (w *world) log(who string) *slog.Logger {
	return slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("who", who)
}

// define sets the one VNI of most tests.
func (w *world) define(candidates ...string) {
	mac, _ := net.ParseMAC(theMAC)
	i := failover.Interface{ID: theVNI, MAC: [6]byte(mac), Addresses: []netip.Addr{netip.MustParseAddr(w.address)}}
	for _, c := range candidates {
		i.Candidates = append(i.Candidates, failover.Candidate{Host: c[:2], Instance: c[3:]})
	}
	w.interfaces = []failover.Interface{i}
}

// run starts a host's agent.
func (h *host) run(vars ...uint32) {
	h.w.t.Helper()
	c := agentProcess{
		Pins:   h.pins,
		Config: AgentConfig{Underlay: fmt.Sprintf("10.8.0.%d", h.n), Ports: h.ports, Segment: h.w.segment, Uplink: "eth0"},
	}
	if len(vars) > 0 {
		c.Vars = map[string]uint32{"fence_mutant": vars[0]}
	}
	for i, b := range h.w.boxes {
		c.Boxes = append(c.Boxes, [2]string{b.Address(), h.identities[i]})
	}
	text, err := json.Marshal(c)
	if err != nil {
		h.w.t.Fatal(err)
	}
	// As the unit file has it: who beats every 50 ms must not wait behind everyone else.
	h.agent = exec.Command("nice", "-n", "-15", executable(h.w.t))
	h.agent.Env = append(os.Environ(), helperKey+"="+string(text))
	orphan(h.w.t, h.agent)
	h.agent.Stdout, h.agent.Stderr = h.w.t.Output(), h.w.t.Output()
	h.ns.Start(h.agent)
}

// await waits until the groups have been told of something, and says when that was.
func (w *world) await(what string, ok func(Location) bool) (Location, time.Time) {
	w.t.Helper()
	for deadline := time.After(wait); ; {
		w.mu.Lock()
		l, since, news := w.at, w.since, w.news
		w.mu.Unlock()
		if ok(l) {
			return l, since
		}
		select {
		case <-news:
		case <-deadline:
			w.t.Fatalf("waited %v for %s; the box says %+v", wait, what, w.status())
		}
	}
}

// status is what the leading box shows.
func (w *world) status() []api.Interface {
	reply, err := w.boxes[w.leader].part.list()
	if err != nil {
		w.t.Fatal(err)
	}
	return reply.Interfaces
}

func upAt(holder string) func(Location) bool {
	return func(l Location) bool { return l.Up && l.Holder.String() == holder }
}

// helperKey is set, to a configuration, in the processes that are agents.
const helperKey = "RATCHET_VNI_AGENT"

type agentProcess struct {
	Boxes  [][2]string
	Pins   string
	Config AgentConfig
	Vars   map[string]uint32
}

func TestMain(m *testing.M) {
	nettest.BeInstance()
	if os.Getenv(helperKey) == "" {
		os.Exit(m.Run())
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if err := runAgent(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runAgent() error {
	var p agentProcess
	if err := json.Unmarshal([]byte(os.Getenv(helperKey)), &p); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("who", "agent of "+p.Config.Underlay)
	o := AgentOptions{Log: log, Pins: p.Pins, Config: p.Config}
	for _, b := range p.Boxes {
		id, err := control.ReadIdentity(b[1])
		if err != nil {
			return err
		}
		c := control.NewClient(control.ClientOptions{Address: b[0], Identity: id, Log: log})
		o.Clients = append(o.Clients, c)
	}
	if p.Vars != nil {
		o.vars = map[string]any{}
		for k, v := range p.Vars {
			o.vars[k] = v
		}
	}
	a, err := NewAgent(o)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range o.Clients {
		g.Go(func() error { return c.Run(ctx) })
	}
	g.Go(func() error { return a.Run(ctx) })
	return g.Wait()
}
