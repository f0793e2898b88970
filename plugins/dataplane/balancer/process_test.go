package balancer

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
)

// TestMain is the balancer's process when a test has started it as one.
func TestMain(m *testing.M) {
	if c := os.Getenv("BALANCER_PROCESS"); c != "" {
		if err := serve(c); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// process is a balancer that can be killed: this test's binary as another process in a namespace.
type process struct {
	w         *world
	ns        *nettest.Namespace
	authority *control.Authority
	file      string
	address   string
	state     dirState
	enrolled  map[string][]byte
	cmd       *exec.Cmd
	in        io.Writer
	out       *bufio.Reader
}

// processConfig is what the process is told.
type processConfig struct {
	Pins, State, Address string
	Balancer             Config
}

func (w *world) newProcess(address, mac string, c Config) *process {
	w.t.Helper()
	p := &process{w: w, ns: nettest.New(w.t), address: address, state: dirState(w.t.TempDir()), file: filepath.Join(w.t.TempDir(), "config")}
	w.plug(p.ns, address+"/24", mac)
	var err error
	if p.authority, err = control.OpenAuthority(w.t.Context(), p.state); err != nil {
		w.t.Fatal(err)
	}
	// A process knows those that were enrolled before it began.
	p.enrolled = map[string][]byte{}
	for _, s := range w.backends {
		p.enrolled[s.name()] = p.enroll(s.name())
	}
	b, err := json.Marshal(processConfig{bpffs(w.t), string(p.state), address, c})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(p.file, b, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (p *process) Address() string { return p.address + ":7400" }

func (p *process) enroll(name string) []byte {
	p.w.t.Helper()
	pem, err := p.authority.Enroll(p.w.t.Context(), name)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return pem
}

func (p *process) Identity(name string) *control.Identity {
	id, err := control.ParseIdentity(p.enrolled[name])
	if err != nil {
		p.w.t.Fatal(err)
	}
	return id
}

// start starts the process and returns when the balancer is.
func (p *process) start() {
	p.w.t.Helper()
	p.launch()
	p.started()
}

func (p *process) started() {
	p.w.t.Helper()
	if line, _ := p.out.ReadString('\n'); line != "started\n" {
		p.w.t.Fatalf("balancer says %q", line)
	}
}

func (p *process) launch() {
	t := p.w.t
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BALANCER_PROCESS="+p.file)
	cmd.Stderr = testLog{t}
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut); err != nil {
		t.Fatal(err)
	}
	p.ns.Start(cmd)
	p.cmd, p.in, p.out = cmd, in, bufio.NewReader(out)
}

// kill ends it as a crash would.
func (p *process) kill() {
	p.cmd.Process.Signal(syscall.SIGKILL)
	p.cmd.Wait()
}

// ask invokes a management call.
func (p *process) ask(method string, reply any) {
	p.w.t.Helper()
	fmt.Fprintln(p.in, method)
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		p.w.t.Fatal(err)
	}
	if err := json.Unmarshal(line, reply); err != nil {
		p.w.t.Fatalf("%s answers %s: %v", method, line, err)
	}
}

func (p *process) peers() (r api.PeersReply) {
	p.ask(api.MethodPeers, &r)
	return r
}

// states are those of the first VIP's backends.
func (p *process) states() map[string]api.Backend {
	var r api.VIPsReply
	p.ask(api.MethodVIPs, &r)
	out := map[string]api.Backend{}
	for _, b := range r.VIPs[0].Backends {
		out[b.Name] = b
	}
	return out
}

// config is one VIP whose backends are the world's servers, by their agents.
func (w *world) config(source string) Config {
	c := Config{
		Interface: "data0", Flows: 8192, Source: SourceConfig{IPv4: source},
		VIPs: []VIPConfig{{Name: "web", Address: vipAddress.String(), Ports: "80", ReportTTL: plugin.Duration(2 * time.Second)}},
	}
	for _, s := range w.backends {
		c.VIPs[0].Backends = append(c.VIPs[0].Backends, BackendConfig{Host: s.name()})
	}
	return c
}

// flip fills and empties backends at random, some of them always having room, while connections come; it returns these.
func (w *world) flip(rng *rand.Rand, agents []*agent, rounds, each int) (conns []*conn) {
	w.t.Helper()
	for round := range rounds {
		spared := rng.IntN(len(agents))
		for i, a := range agents {
			if i != spared && rng.IntN(2) == 0 {
				a.say(0)
			} else {
				a.say(1000)
			}
		}
		for range each {
			// While one word is in force and the other is not yet, nobody has room.
			var c *conn
			until(w.t, fmt.Sprintf("a connection in round %d", round), func() (ok bool) {
				var err error
				c, err = w.connect(5 * time.Second)
				return err == nil
			})
			conns = append(conns, c)
		}
	}
	return conns
}

var (
	kills    = flag.Int("kills", 3, "how often TestKilledAndRestarted kills the balancer")
	killSeed = flag.Uint64("seed", 1, "of what is full when")
)

// The process is killed and comes back: no connection notices, and agents go on where they were.
func TestKilledAndRestarted(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(*killSeed, 0))
	lost := 0
	w := newWorld(t, 4)
	p := w.newProcess("10.0.0.1", "", w.config("10.0.0.1"))
	p.start()
	w.client.IP("route add 10.0.0.80/32 via 10.0.0.1")
	var agents []*agent
	for _, s := range w.backends {
		agents = append(agents, s.report(t, p))
	}
	serving := func() bool {
		for _, b := range p.states() {
			if b.State != "serving" {
				return false
			}
		}
		return true
	}
	for _, a := range agents {
		a.say(1000)
	}
	until(t, "all serve", serving)
	conns := w.flip(rng, agents, 8, 10)
	for range *kills {
		p.kill()
		lost += alive(t, conns)
		// New connections go where there is room by the last reports.
		c, err := w.connect(3 * time.Second)
		if err != nil {
			t.Fatalf("while no process runs: %v", err)
		}
		conns = append(conns, c)
		p.start()
		lost += alive(t, conns)
		for _, a := range agents {
			a.say(1000)
		}
		until(t, "all serve again", serving)
		conns = append(conns, w.flip(rng, agents, 4, 5)...)
		for len(conns) > 200 { // old and young ones stay
			i := rng.IntN(len(conns))
			conns[i].Close()
			conns = slices.Delete(conns, i, i+1)
		}
	}
	lost += alive(t, conns)
	t.Logf("soak balancer.kill %d tried, %d lost", *kills, lost)
	for _, c := range conns {
		c.Close()
	}
}

// One of two balancers dies, machine and all: the other has its connections and its addresses.
func TestPeerTakesOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	config := func(address, peer, peerAddress string, priority int) Config {
		c := w.config(address)
		c.Peers = []PeerConfig{{Name: peer, Address: peerAddress + ":7400"}}
		c.Announce = &AnnounceConfig{Mode: "arp", Priority: priority, Beat: plugin.Duration(200 * time.Millisecond)}
		return c
	}
	a := w.newProcess("10.0.0.1", "02:00:00:00:00:0a", config("10.0.0.1", "b", "10.0.0.2", 20))
	b := w.newProcess("10.0.0.2", "02:00:00:00:00:0b", config("10.0.0.2", "a", "10.0.0.1", 10))
	// Each is enrolled at the other, and given the file.
	a.state.Put(t.Context(), identityKey("b"), b.enroll("a"))
	b.state.Put(t.Context(), identityKey("a"), a.enroll("b"))
	a.launch()
	b.launch()
	a.started()
	b.started()
	var agents []*agent
	for _, s := range w.backends {
		agents = append(agents, s.report(t, a, b))
	}
	for _, g := range agents {
		g.say(1000)
	}
	until(t, "a is active and b is in step", func() bool {
		pa, pb := a.peers(), b.peers()
		return pa.Active == "self" && pb.Active == "a" && pa.Peers[0].InStep && pb.Peers[0].InStep
	})
	until(t, "both have credit", func() bool {
		for _, p := range []*process{a, b} {
			for _, o := range p.states() {
				if o.State != "serving" {
					return false
				}
			}
		}
		return true
	})
	conns := w.flip(rand.New(rand.NewPCG(1, 1)), agents, 8, 10)
	until(t, "b has them all", func() bool {
		var f api.FlowsReply
		b.ask(api.MethodFlows, &f)
		return f.Established >= len(conns)
	})

	began := time.Now()
	a.kill()
	a.ns.IP("link set data0 down")
	until(t, "b is active", func() bool { return b.peers().Active == "self" })
	t.Logf("b is active after %v", time.Since(began))
	alive(t, conns)
	t.Logf("all %d connections answer after %v", len(conns), time.Since(began))
	for _, g := range agents {
		g.say(1000)
	}
	for range 10 {
		c, err := w.connect(5 * time.Second)
		if err != nil {
			t.Fatalf("through b: %v", err)
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		c.Close()
	}
}
