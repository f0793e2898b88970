package systems

import (
	"fmt"
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
`

// dataplane is a booted box whose data NIC is plugged into a switch, with hosts on it that run the real agent. The
// switch and the hosts are network namespaces of this machine.
type dataplane struct {
	t          testing.TB
	dir, image string
	sw         *nettest.Switch
	m          *machine
	hosts      map[string]*host
}

// host is one namespace on the switch.
type host struct {
	*nettest.Namespace
	d       *dataplane
	name    string
	address string
	agent   *exec.Cmd
}

// theDataplane is made by the first row that wants it.
var theDataplane *dataplane

func sharedDataplane(t *testing.T) *dataplane {
	t.Helper()
	l := shared.during(t)
	if theDataplane != nil {
		return theDataplane
	}
	d := &dataplane{t: l, hosts: map[string]*host{}}
	d.dir, d.image = workspace(l, "dataplane", "full")
	d.sw = nettest.NewSwitch(l)
	wire := d.tap("tap0")
	d.m = boot(l, box.Options{
		Image: d.image, Dir: filepath.Join(d.dir, "box"), Config: []byte(dataplaneConfig), Limit: 20 * time.Minute,
		NICs: []vm.NIC{{MAC: dataMAC, Net: vm.Tap{File: wire}}},
	})
	must(l, wire.Close())
	d.m.released("provisioned")
	d.m.login()
	theDataplane = d
	return d
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

// host plugs a host into the switch, or finds it there.
func (d *dataplane) host(name string, number int, more ...string) *host {
	d.t.Helper()
	if h := d.hosts[name]; h != nil {
		return h
	}
	h := &host{Namespace: nettest.New(d.t), d: d, name: name, address: fmt.Sprintf("192.0.2.%d", number)}
	addresses := append([]string{h.address + "/24", fmt.Sprintf("2001:db8::%x/64", number)}, more...)
	d.sw.Plug(nettest.End{On: h.Namespace, Name: "eth0", Addresses: addresses})
	h.NoOffload("eth0")
	d.hosts[name] = h
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
	h.agent = exec.Command(filepath.Join(h.d.image, builder.ApplianceFile), "agent", "--config", filepath.Join(dir, "agent.yaml"))
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

func TestDataplaneBed(t *testing.T) {
	d := sharedDataplane(t)
	h := d.host("h1", 11)
	h.runsAgent("")
	d.joined(h)
	t.Log(d.m.ctl("dataplane", "agent", "list"))
	t.Log(d.m.ctl("dataplane", "links"))
	out, err := d.m.Ctl(within(t, 120*time.Second), "dataplane", "probe")
	t.Log(string(out), err)
}
