package systems

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/api"
)

// The VNI of dataplaneConfig. The group has its address, and the VNI as its only member.
const (
	theVNI     = "71"
	theVNIMAC  = "02:00:00:00:00:71"
	theVNIAddr = "10.9.0.71"
	vniDevice  = "v71"
)

// failover is two hosts with an instance each that may hold the VNI, and two clients that send to its group's address
// all the time.
type failover struct {
	t      *testing.T
	d      *dataplane
	hosts  [2]*candidate
	stream *nettest.Stream // of the client that the three rows share
	late   *host           // a client whose agent is stopped before the VNI moves, so that it goes on as before
	stales uint64          // streams of late
}

// candidate is a host and its instance.
type candidate struct {
	*host
	name     string // of the instance
	instance *nettest.Instance
}

// String is as the box names it.
func (c *candidate) String() string { return c.host.name + "/" + c.name }

// failsOver: the VNI's instance is killed, its host's agent is stopped, its host is cut off from the box. The other
// host's instance has it then, within the bounds of issue 5.
func (d *dataplane) failsOver(t *testing.T) {
	f := d.attaches(t)
	defer f.end()
	f.patiently(f.killed)
	for _, s := range silences {
		f.patiently(func() (figure, error) { return f.silent(s) })
	}
}

// attaches brings the hosts up until one holds the VNI, the other stands by and both clients reach it.
func (d *dataplane) attaches(t *testing.T) *failover {
	t.Helper()
	f := &failover{t: t, d: d}
	for i, name := range []string{"a", "b"} {
		c := &candidate{host: d.host(fmt.Sprintf("v%d", i+1), 21+i), name: name}
		f.hosts[i] = c
		c.starts()
		c.runsAgent(fmt.Sprintf("attachments: {underlay: %s, ports: [{vni: %s, instance: %s, kind: veth, device: %s}]}\n", c.address, theVNI, name, vniDevice))
	}
	f.late = d.host("c2", 201)
	f.late.runsAgent("groups: {}\n")
	d.m.ctl("dataplane", "group", "create", "moving", theVNIAddr)
	d.m.ctl("dataplane", "group", "add", "moving", "the-vni", "--vni", theVNI)
	f.stream = d.client.streams(1)
	h, _, _ := f.ready()
	f.hears(h)
	return f
}

// starts starts an instance on the host and plugs it in, as a container runtime would.
func (c *candidate) starts() {
	// The link of an instance that was killed goes with its namespace, some time later.
	await(c.d.t, stepLimit, vniDevice+" to go", func() (string, bool) {
		var err error
		c.Run(func() { _, err = net.InterfaceByName(vniDevice) })
		return "", err != nil
	})
	c.instance = c.Instance(c.String())
	c.instance.Plug(vniDevice, nettest.End{Name: "eth0", MAC: theVNIMAC, Addresses: []string{theVNIAddr + "/32"}}, "route add default dev eth0")
}

// streams sends numbered datagrams to the group's address. What is refused while there is no member is lost, as what
// goes to nobody.
func (h *host) streams(first uint64) *nettest.Stream {
	var conn net.Conn
	await(h.d.t, stepLimit, "a route to "+theVNIAddr, func() (string, bool) {
		var err error
		h.Run(func() { conn, err = net.Dial("udp4", net.JoinHostPort(theVNIAddr, fmt.Sprint(nettest.InstancePort))) })
		return fmt.Sprint(err), err == nil
	})
	h.d.t.Cleanup(func() { conn.Close() })
	return h.Stream(first, func(seq uint64) { _, _ = fmt.Fprint(conn, seq) })
}

// end stops everything that would cost the next row something.
func (f *failover) end() {
	f.stream.Stop()
	f.late.killAgent(f.t)
	for _, c := range f.hosts {
		c.killAgent(f.t)
		c.instance.Kill()
	}
}

// hears waits until a candidate gets the stream as it is sent now.
func (f *failover) hears(c *candidate) {
	f.t.Helper()
	c.instance.Await(f.t, stepLimit, f.stream.Sent()+1, firstStale-1)
}

// firstStale is above all numbers of the stream. The late client's streams have numbers from here on, a span each.
const firstStale, staleSpan = 1 << 40, 1 << 32

// ready waits until the VNI is attached and the other candidate could take it.
func (f *failover) ready() (holder, other *candidate, epoch uint64) {
	f.t.Helper()
	await(f.t, stepLimit, "VNI attached and a stand-by ready", func() (string, bool) {
		i := f.shown()
		for n, c := range i.Candidates {
			if i.Holder != nil && c.String() == i.Holder.String() {
				holder, other = f.hosts[n], f.hosts[1-n]
			}
		}
		epoch = i.Epoch
		ok := i.State == "attached" && holder != nil && !slices.ContainsFunc(i.Candidates, func(c api.Candidate) bool { return !c.Eligible })
		return fmt.Sprintf("%+v", i), ok
	})
	return holder, other, epoch
}

// shown is the VNI as the box shows it.
func (f *failover) shown() api.Interface {
	f.t.Helper()
	r := decode[api.ListReply](f.t, []byte(f.d.m.asks("dataplane", "vni", "list", "-o", "json")))
	if len(r.Interfaces) != 1 {
		f.t.Fatalf("the box has VNIs %+v", r.Interfaces)
	}
	return r.Interfaces[0]
}

// On a machine that others starve an emulated box is late, or takes a host for silent that is not. What must never be is
// an error at once. A story that was disturbed, or took longer than issue 5 allows, is told again; how long the best one
// took is what the row shows, and an error when it is beyond what such a machine explains.
var errDisturbed = errors.New("disturbed")

const attempts = 4

// figure is what was measured in a story.
type figure struct {
	what                string // with the value in it
	value, bound, limit int    // the bound is the issue's, the limit this test's
}

func (f *failover) patiently(story func() (figure, error)) {
	f.t.Helper()
	var best *figure
	var err error
	for n := 0; n < attempts && (best == nil || best.value > best.bound); n++ {
		var now figure
		now, err = story()
		switch {
		case err == nil && (best == nil || now.value < best.value):
			best = &now
		case err != nil && !errors.Is(err, errDisturbed):
			f.t.Fatal(err)
		}
		f.t.Logf("attempt %d: %s: %v", n+1, now.what, err)
	}
	switch {
	case best == nil:
		f.t.Fatal(err)
	case best.value > best.limit:
		f.t.Fatalf("%s: more than %d in %d attempts", best.what, best.limit, attempts)
	case best.value > best.bound:
		seen(f.t, "%s (more than %d in %d attempts on this machine)", best.what, best.bound, attempts)
	default:
		seen(f.t, "%s", best.what)
	}
}
