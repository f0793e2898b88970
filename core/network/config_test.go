package network

import (
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/ratchetos/ratchet/hw"
	"github.com/ratchetos/ratchet/hw/nic/netif"
)

func TestCheck(t *testing.T) {
	prefix, ip := netip.MustParsePrefix, netip.MustParseAddr
	for _, tt := range []struct {
		name string
		c    Config
		want []string
	}{
		{"nothing", Config{}, nil},
		{"all well", Config{Addresses: []netip.Prefix{prefix("10.0.0.5/24")}, Gateway: []netip.Addr{ip("10.0.0.1"), ip("fe80::1")}}, nil},
		{"all wrong", Config{
			Addresses: []netip.Prefix{prefix("224.0.0.1/24"), prefix("0.0.0.0/0")},
			Gateway:   []netip.Addr{ip("10.0.0.1"), ip("10.0.0.2")},
			Hostname:  "two words",
		}, []string{"224.0.0.1/24 cannot", "0.0.0.0/0 cannot", "10.0.0.2: there is one", `"two words"`}},
		{"gateway elsewhere", Config{Addresses: []netip.Prefix{prefix("10.0.0.5/24")}, Gateway: []netip.Addr{ip("10.0.1.1")}}, []string{"in none of the networks"}},
	} {
		err := tt.c.Check()
		if (err != nil) != (tt.want != nil) {
			t.Errorf("%s: %v", tt.name, err)
		}
		for _, w := range tt.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q in it", tt.name, err, w)
			}
		}
	}
}

func TestChoose(t *testing.T) {
	devices := []hw.Device{
		{ID: "mac:a", Place: "pci:0000:00:05.0", Kind: hw.NIC, Node: "eth0", Supported: true},
		{ID: "mac:b", Place: "pci:0000:00:03.0", Kind: hw.NIC, Node: "eth1", Supported: true},
		{ID: "mac:c", Place: "pci:0000:00:02.0", Kind: hw.NIC, Node: "eth2", Why: "not in the hardware catalogue"},
		{ID: "pci:0000:00:01.0", Place: "pci:0000:00:01.0", Kind: hw.NIC, Supported: true}, // not bound
		{ID: "serial:d", Place: "pci:0000:00:00.0", Kind: hw.Disk, Node: "/dev/sda", Supported: true},
	}
	for _, tt := range []struct {
		c         Config
		want, err string
	}{
		{Config{}, "mac:b", ""},
		{Config{NIC: Auto, Claimed: []string{"mac:b"}}, "mac:a", ""},
		{Config{Claimed: []string{"mac:a", "mac:b"}}, "", "no supported NIC is free"},
		{Config{NIC: "mac:a"}, "mac:a", ""},
		{Config{NIC: "mac:c"}, "", "not in the hardware catalogue"},
		{Config{NIC: "pci:0000:00:01.0"}, "", "no driver bound"},
		{Config{NIC: "serial:d"}, "", "no device serial:d"}, // a disk is no NIC
	} {
		d, err := tt.c.choose(devices)
		if d.ID != tt.want || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%+v: %q, %v", tt.c, d.ID, err)
		}
	}
}

// What a DHCP server sends is outside input.
func TestFromACK(t *testing.T) {
	ack := func(mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 5))}, mods...)...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	l, err := fromACK(ack(
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithRouter(net.IPv4(10, 0, 0, 1)),
		dhcpv4.WithDomainSearchList("ok.example", "bad\nnameserver 6.6.6.6"),
		dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(
			&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Router: net.IPv4(10, 0, 0, 2)},
			&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(10, 9, 0, 0), Mask: net.CIDRMask(16, 32)}, Router: net.IPv4zero},
		))))
	if err != nil {
		t.Fatal(err)
	}
	want := []netif.Route{
		{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.0.0.2")},
		{To: netip.MustParsePrefix("10.9.0.0/16")},
	}
	if got := l.defaults(); !reflect.DeepEqual(got, want) {
		t.Errorf("routes %v, want %v (RFC 3442: the router option is ignored)", got, want)
	}
	if !reflect.DeepEqual(l.search, []string{"ok.example"}) {
		t.Errorf("search %q", l.search)
	}
	for _, ip := range []net.IP{net.IPv4zero, net.IPv4(224, 0, 0, 1), net.IPv4(127, 0, 0, 1)} {
		if _, err := fromACK(ack(dhcpv4.WithYourIP(ip))); err == nil {
			t.Errorf("took %s for a host's address", ip)
		}
	}
	if l, err := fromACK(ack()); err != nil || l.address.Bits() != 32 {
		t.Errorf("without a mask: %v, %v", l.address, err)
	}
}

func FuzzFromACK(f *testing.F) {
	m, err := dhcpv4.New(dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 5)), dhcpv4.WithRouter(net.IPv4(10, 0, 0, 1)), dhcpv4.WithDomainSearchList("a.example"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.ToBytes())
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, err := dhcpv4.FromBytes(packet)
		if err != nil {
			return
		}
		l, err := fromACK(m)
		if err != nil {
			return
		}
		text := resolvConf(l.dns, l.search)
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "search ") && !strings.HasPrefix(line, "nameserver ") {
				t.Errorf("line %q in %q", line, text)
			}
		}
	})
}
