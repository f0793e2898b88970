package balancer

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
)

// The VIPs are on the interface that is configured and there: on a NIC that was unplugged and is back under another number,
// and on another one after a change of the configuration, with nothing left on the former.
func TestAnotherInterface(t *testing.T) {
	t.Parallel()
	box := nettest.New(t)
	plug := func(name, mac string) (client *nettest.Namespace) {
		client = nettest.New(t)
		nettest.Veth(t, nettest.End{On: box, Name: name, MAC: mac}, nettest.End{On: client, Name: "lan0", Addresses: []string{"10.0.0.9/24"}})
		return client
	}
	attach := func(p *Part) {
		t.Helper()
		r := p.running()
		if err := r.ask(t.Context(), func() error { r.attach(); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	finds := func(what string, client *nettest.Namespace, mac string) {
		t.Helper()
		until(t, what, func() bool {
			c := client.Dial("udp", vipAddress.String()+":9")
			c.Write([]byte("hello"))
			return strings.Contains(client.Exec("ip", "neigh", "show", "to", vipAddress.String()), mac)
		})
	}
	const first, second, third = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
	client := plug("data0", first)
	other := plug("data1", third)

	d := many(1, 1)
	d.VIPs[0].Key.Address = vipAddress
	d.Announce = Announce{Mode: ARP, Beat: 10 * time.Millisecond}
	p := New(Options{
		Pins: bpffs(t), State: controltest.NewMemoryState(), Dial: in(box), In: box.Run,
		Link: func(name string) (index, mtu int, ok bool) {
			box.Run(func() {
				if l, err := net.InterfaceByName(name); err == nil {
					index, mtu, ok = l.Index, l.MTU, true
				}
			})
			return index, mtu, ok
		},
	})
	var err error
	box.Run(func() { err = p.Start(t.Context(), d) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(context.Background()) })
	finds("the VIP is on the interface", client, first)

	box.IP("link set data0 down", "link set data0 name lost0")
	attach(p)
	if _, why := p.Health(); !strings.Contains(why, "data0 is not there") {
		t.Errorf("health says %q", why)
	}
	until(t, "the balancer steps down", func() bool { return p.running().active(p.now()) == "" })
	box.IP("link set lost0 name data0", "link set data0 up")
	attach(p)
	if _, why := p.Health(); strings.Contains(why, "data0 is not there") {
		t.Errorf("the interface is back, and health says %q", why)
	}

	box.IP("link del data0")
	attach(p)
	client = plug("data0", second)
	attach(p)
	finds("the VIP is on the NIC that is back", client, second)

	d.Interface = "data1"
	if err := p.Apply(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	attach(p)
	finds("the VIP is on the other interface", other, third)
	if s := box.Exec("ip", "link", "show", "data0"); strings.Contains(s, "xdp") {
		t.Errorf("the program is still on the former interface: %s", s)
	}
}
