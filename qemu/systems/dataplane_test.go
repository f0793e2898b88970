package systems

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/plugins/dataplane/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/vm"
)

const (
	dataMAC  = "52:54:00:00:01:01"
	dataAddr = "192.0.2.1"
	agents   = "7400"
)

// dataplaneConfig is a box with everything that the three rows need, on one NIC.
const dataplaneConfig = `version: 1
hostname: dataplane
network: {management: {nic: "mac:52:54:00:72:61:01", dhcp: true}}
time: {ntp: []}
plugins:
  dataplane:
    links: [{nic: "mac:52:54:00:00:01:01", name: data0, addresses: [192.0.2.1/24, "2001:db8::1/64"]}]
    agents: {listen: ":7400"}
    balancer:
      interface: data0
      source: {ipv4: 192.0.2.1}
      announce: {mode: arp}
      vips:
        - {name: web, address: 192.0.2.80, ports: "80", report_ttl: 10s, backends: [{host: h1}, {host: h2}, {host: h3}]}
    groups: {lease: 30s}
    vnis:
      interfaces: [{id: 71, mac: "02:00:00:00:00:71", addresses: [10.9.0.71], candidates: [{host: v1, instance: a}, {host: v2, instance: b}]}]
    leases: {services: [{name: db, addresses: [10.7.0.1], vni: 700, ttl: 6s}]}
`

// The addresses that the three systems serve; the three hosts have all of them.
const (
	theVIP     = "192.0.2.80"
	theGroup   = "10.9.0.1"
	theService = "10.7.0.1"
)

// boxPort is the switch's port with the box behind it.
const boxPort = "tap0"

// dataplane is a booted box whose data NIC is plugged into a switch, with hosts on it that run the real agent. The
// switch and the hosts are network namespaces of this machine.
type dataplane struct {
	t          testing.TB
	dir, image string
	sw         *nettest.Switch
	m          *machine
	backends   []*host // h1 to h3
	client     *host
	ready      bool
}

// host is one namespace on the switch.
type host struct {
	*nettest.Namespace
	d       *dataplane
	name    string
	address string
	port    string // of the switch
	agent   *exec.Cmd
	says    *net.UnixConn // to the agent, about the capacity of the host's application
}

// theDataplane is made by the first row that wants it.
var theDataplane *dataplane

func sharedDataplane(t *testing.T) *dataplane {
	t.Helper()
	l := dataplaneRows.during(t)
	if theDataplane != nil {
		if !theDataplane.ready {
			t.Fatal("the box that the rows share could not be brought up; see the first of them")
		}
		return theDataplane
	}
	d := &dataplane{t: l}
	theDataplane = d
	l.Cleanup(func() { theDataplane = nil })
	d.dir, d.image = workspace(l, "dataplane", "full")
	d.sw = nettest.NewSwitch(l)
	wire := d.tap(boxPort)
	d.m = boot(l, box.Options{
		Image: d.image, Dir: filepath.Join(d.dir, "box"), Config: []byte(dataplaneConfig), Limit: 20 * time.Minute,
		NICs: []vm.NIC{{MAC: dataMAC, Net: vm.Tap{File: wire}}},
	})
	must(l, wire.Close())
	d.m.released("provisioned")
	d.m.login()
	d.populate()
	d.ready = true
	return d
}

// populate plugs the hosts in: three that serve, and one with clients.
func (d *dataplane) populate() {
	d.t.Helper()
	for i := range 3 {
		h := d.host(fmt.Sprintf("h%d", i+1), 11+i)
		// The usual settings of a host that answers for an address which another one announces.
		h.Sysctl("net/ipv4/conf/all/arp_ignore", "1")
		h.Sysctl("net/ipv4/conf/all/arp_announce", "2")
		for _, a := range []string{theVIP, theGroup, theService} {
			h.IP("address add " + a + "/32 dev lo")
			l := h.Listen("tcp", net.JoinHostPort(a, "80"))
			go answer(l, h.name)
		}
		socket := filepath.Join(d.dir, h.name+".sock")
		h.runsAgent(fmt.Sprintf(`decapsulation: {links: [eth0], sources: [%s], vips: [%s]}
capacity: {components: [{name: web, application: {socket: %s, ttl: 5m}}]}
groups: {}
leases: {produce: [{service: db, name: db-%s, quota: 8, underlay: %s}]}
`, dataAddr, theVIP, socket, h.name, h.address))
		h.hasRoom(socket, 1000)
		d.backends = append(d.backends, h)
	}
	d.client = d.host("c1", 200)
	d.client.runsAgent("groups: {}\nleases: {consume: [{service: db, leases: 2}]}\n")
	d.joined(append(d.backends, d.client)...)
}

// hasRoom is the application of a host telling how many more connections it takes.
func (h *host) hasRoom(socket string, n int) {
	h.d.t.Helper()
	if h.says == nil {
		await(h.d.t, stepLimit, "the agent's socket", func() (string, bool) {
			c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
			h.says = c
			return fmt.Sprint(err), err == nil
		})
		h.d.t.Cleanup(func() { h.says.Close() })
	}
	_, err := fmt.Fprintf(h.says, "LIMIT=%d\n", n)
	must(h.d.t, err)
}

// answer answers each line of a connection with the name of who serves it.
func answer(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for in := bufio.NewScanner(c); in.Scan(); {
				if _, err := fmt.Fprintf(c, "%s %s\n", name, in.Text()); err != nil {
					return
				}
			}
		}()
	}
}

// tap plugs a tap device into the switch and returns its other end.
func (d *dataplane) tap(name string) *os.File {
	d.t.Helper()
	ifr, err := unix.NewIfreq(name)
	must(d.t, err)
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	var f *os.File
	d.sw.Run(func() { // the device is made in the namespace in which the file was opened
		f, err = os.OpenFile("/dev/net/tun", os.O_RDWR|syscall.O_NONBLOCK, 0)
		must(d.t, err)
		must(d.t, unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, ifr))
	})
	d.sw.IP("link set "+name+" master br0", "link set "+name+" up")
	return f
}

// host plugs a host into the switch.
func (d *dataplane) host(name string, number int) *host {
	d.t.Helper()
	h := &host{Namespace: nettest.New(d.t), d: d, name: name, address: fmt.Sprintf("192.0.2.%d", number)}
	addresses := []string{h.address + "/24", fmt.Sprintf("2001:db8::%x/64", number)}
	h.port = d.sw.Plug(nettest.End{On: h.Namespace, Name: "eth0", Addresses: addresses})
	h.NoOffload("eth0")
	return h
}

// runsAgent enrols the host and starts the real agent on it with these sections.
func (h *host) runsAgent(sections string) {
	t := h.d.t
	t.Helper()
	dir := filepath.Join(h.d.dir, h.name)
	must(t, os.MkdirAll(dir, 0o755))
	identity := filepath.Join(dir, "box.pem")
	h.d.m.ctl("dataplane", "agent", "enroll", h.name, "--file", identity)
	pins := "/sys/fs/bpf/ratchet-test-" + h.name
	t.Cleanup(func() { os.RemoveAll(pins) })
	config := filepath.Join(dir, "agent.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "boxes: [{address: '%s:%s', identity: %s}]\npins: %s\n%s", dataAddr, agents, identity, pins, sections), 0o600))
	h.startAgent()
}

// startAgent starts the agent with the file it has.
func (h *host) startAgent() {
	t := h.d.t
	t.Helper()
	dir := filepath.Join(h.d.dir, h.name)
	log, err := os.OpenFile(filepath.Join(dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(t, err)
	defer log.Close()
	// As the unit file has it: who beats every 50 ms must not wait behind everyone else.
	h.agent = exec.Command("nice", "-n", "-15", filepath.Join(h.d.image, builder.ApplianceFile), "agent", "--config", filepath.Join(dir, "agent.yaml"))
	h.agent.Stderr = log
	h.Start(h.agent)
}

// joined waits until the box hears all of these hosts.
func (d *dataplane) joined(hosts ...*host) {
	d.t.Helper()
	await(d.t, stepLimit, "hosts to join", func() (string, bool) {
		out := d.m.asks("dataplane", "agent", "list", "-o", "json")
		in := map[string]bool{}
		for _, a := range decode[api.AgentsReply](d.t, []byte(out)).Agents {
			in[a.Name] = a.Joined
		}
		for _, h := range hosts {
			if !in[h.name] {
				return out, false
			}
		}
		return out, true
	})
}
