package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// network is a kernel's network made up. It knows entries by their text.
type network struct {
	entries map[uint32][]Entry
	calls   []string
	fail    string // the call that fails
}

func (n *network) call(format string, args ...any) error {
	c := fmt.Sprintf(format, args...)
	n.calls = append(n.calls, c)
	if c == n.fail {
		return errors.New("no")
	}
	return nil
}

func (n *network) Up(index uint32) error { return n.call("up %d", index) }

func (n *network) Entries(kind Kind, index uint32) ([]Entry, error) {
	var out []Entry
	for _, e := range n.entries[index] {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out, nil
}

// indexOf reads the interface out of a message.
func indexOf(e Entry) uint32 {
	if e.Kind != Route {
		return binary.NativeEndian.Uint32(e.Message[indexAt[e.Kind]:])
	}
	attrs, _ := attributes(e.Message[headerSize[Route]:])
	for _, a := range attrs {
		if a.kind == unix.RTA_OIF {
			return binary.NativeEndian.Uint32(a.data)
		}
	}
	return 0
}

func (n *network) Put(e Entry) error {
	i := indexOf(e)
	if err := n.call("put %s on %d", e.Text, i); err != nil {
		return err
	}
	n.entries[i] = append(slices.DeleteFunc(n.entries[i], func(o Entry) bool { return o.Kind == e.Kind && o.Text == e.Text }), e)
	if e.Kind == Route { // replaced, wherever it was
		for other := range n.entries {
			if other != i {
				n.drop(other, e)
			}
		}
	}
	return nil
}

func (n *network) drop(i uint32, e Entry) {
	n.entries[i] = slices.DeleteFunc(n.entries[i], func(o Entry) bool { return o.Kind == e.Kind && o.Text == e.Text })
}

func (n *network) Delete(e Entry) error {
	i := indexOf(e)
	if err := n.call("delete %s on %d", e.Text, i); err != nil {
		return err
	}
	n.drop(i, e)
	return nil
}

func (n *network) Announce(index uint32, mac string, addr netip.Addr) error {
	return n.call("announce %s at %s on %d", addr, mac, index)
}

func (n *network) has(index uint32) string {
	var out []string
	for _, e := range n.entries[index] {
		if e.Kind != Neighbour {
			out = append(out, e.Text)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// message makes a netlink payload.
func message(kind Kind, set func(h []byte), attrs ...any) []byte {
	m := make([]byte, headerSize[kind])
	set(m)
	for i := 0; i < len(attrs); i += 2 {
		m = appendAttribute(m, uint16(attrs[i].(int)), attrs[i+1].([]byte))
	}
	return m
}

func u32(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func ip(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

// entriesOf eth0 (index 2) of a common guest.
func entriesOf(t *testing.T) []Entry {
	t.Helper()
	messages := map[Kind][][]byte{
		Address: {
			message(Address, func(h []byte) { h[0], h[1], h[4] = unix.AF_INET, 24, 2 },
				unix.IFA_ADDRESS, ip("10.0.2.15"), unix.IFA_LOCAL, ip("10.0.2.15"), unix.IFA_LABEL, []byte("eth0\x00"), unix.IFA_FLAGS, u32(unix.IFA_F_PERMANENT)),
			message(Address, func(h []byte) { h[0], h[1], h[4] = unix.AF_INET6, 64, 2 }, unix.IFA_ADDRESS, ip("2001:db8::15"), unix.IFA_FLAGS, u32(unix.IFA_F_PERMANENT)),
			message(Address, func(h []byte) { h[0], h[1], h[4] = unix.AF_INET6, 64, 2 }, unix.IFA_ADDRESS, ip("fe80::1")), // stays
			message(Address, func(h []byte) { h[0], h[1], h[4] = unix.AF_INET, 8, 1 }, unix.IFA_ADDRESS, ip("127.0.0.1")), // another card's
		},
		Route: {
			message(Route, func(h []byte) { h[0], h[4], h[7] = unix.AF_INET, unix.RT_TABLE_MAIN, unix.RTN_UNICAST }, unix.RTA_GATEWAY, ip("10.0.2.2"), unix.RTA_OIF, u32(2), unix.RTA_PRIORITY, u32(100)),
			message(Route, func(h []byte) {
				h[0], h[1], h[4], h[7] = unix.AF_INET, 24, unix.RT_TABLE_MAIN, unix.RTN_UNICAST
			}, unix.RTA_DST, ip("10.0.2.0"), unix.RTA_OIF, u32(2), unix.RTA_PREFSRC, ip("10.0.2.15")),
			message(Route, func(h []byte) { h[0], h[1], h[4], h[7] = unix.AF_INET, 32, unix.RT_TABLE_LOCAL, unix.RTN_LOCAL }, unix.RTA_DST, ip("10.0.2.15"), unix.RTA_OIF, u32(2)),
			message(Route, func(h []byte) { h[0], h[1], h[4], h[7] = unix.AF_INET, 8, unix.RT_TABLE_MAIN, unix.RTN_UNICAST }, unix.RTA_DST, ip("10.0.0.0"), unix.RTA_OIF, u32(3)),
			message(Route, func(h []byte) {
				h[0], h[4], h[5], h[7] = unix.AF_INET6, unix.RT_TABLE_MAIN, unix.RTPROT_RA, unix.RTN_UNICAST
			}, unix.RTA_OIF, u32(2), unix.RTA_GATEWAY, ip("fe80::2")),
		},
		Neighbour: {
			message(Neighbour, func(h []byte) { h[0], h[4], h[8] = unix.AF_INET, 2, unix.NUD_REACHABLE }, unix.NDA_DST, ip("10.0.2.3"), unix.NDA_LLADDR, []byte{1, 2, 3, 4, 5, 6}, unix.NDA_CACHEINFO, make([]byte, 16)),
			message(Neighbour, func(h []byte) { h[0], h[4], h[8] = unix.AF_INET, 2, unix.NUD_FAILED }, unix.NDA_DST, ip("10.0.2.4")),
		},
	}
	var out []Entry
	for _, kind := range []Kind{Address, Route, Neighbour} {
		for _, m := range messages[kind] {
			e, err := parseEntry(kind, m, 2)
			if errors.Is(err, errSkip) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, e)
		}
	}
	return out
}

const (
	macA = "52:54:00:00:00:0a"
	macB = "52:54:00:00:00:0b"
)

// guestWithCards has eth0 (virtio, with addresses) and eth1 (e1000, without).
func guestWithCards(t *testing.T) (*Agent, *machine, *network) {
	t.Helper()
	m := &machine{t: t, root: t.TempDir()}
	for name, c := range map[string][3]string{"eth0": {macA, "2", "virtio_net"}, "eth1": {macB, "3", "e1000"}} {
		dir := netDir + "/" + name
		m.put(dir+"/address", c[0])
		m.put(dir+"/ifindex", c[1])
		m.put(dir+"/device/driver", "-> /sys/bus/pci/drivers/"+c[2])
		m.put(dir+"/carrier", "1")
		m.put(dir+"/mtu", "1500")
	}
	n := &network{entries: map[uint32][]Entry{2: entriesOf(t)}}
	a := New(Options{Root: m.root, Network: n})
	a.sys.write = m.write
	return a, m, n
}

const swapOrder = `{"id":"%d","verb":"swap-nic","wait_ms":40,"args":{"from":"` + macA + `","to":"` + macB + `"}}`

const everything = "10.0.2.0/24, 10.0.2.15/24, 2001:db8::15/64, default via 10.0.2.2"

func TestSwap(t *testing.T) {
	a, _, n := guestWithCards(t)
	got := ask(t, a, fmt.Sprintf(swapOrder, 1))
	if !strings.Contains(got, `"neighbours":1`) || n.has(3) != everything || n.has(2) != "" {
		t.Errorf("%s\neth1 has %s, eth0 %s", got, n.has(3), n.has(2))
	}
	// Make before break: the new card is up, has the neighbours and looks for the gateway while the old one still serves.
	broke := slices.Index(n.calls, "delete 10.0.2.15/24 on 2")
	for _, c := range []string{"up 3", "put 10.0.2.3 on 3", "put 10.0.2.15/24 on 3", "put 10.0.2.2 on 3", "put default via 10.0.2.2 on 3"} {
		if at := slices.Index(n.calls, c); at < 0 || at > broke {
			t.Errorf("%q is call %d, the break %d of %q", c, at, broke, n.calls)
		}
	}
	if !slices.Contains(n.calls, "announce 10.0.2.15 at "+macB+" on 3") || !slices.Contains(n.calls, "announce 2001:db8::15 at "+macB+" on 3") {
		t.Errorf("not announced: %q", n.calls)
	}
	// Another order of the same kind has nothing to move.
	if got := ask(t, a, fmt.Sprintf(swapOrder, 2)); !strings.Contains(got, `"addresses":[]`) || n.has(3) != everything {
		t.Errorf("%s\neth1 has %s", got, n.has(3))
	}
}

// TestSwapPutsBack fails each call in turn: the guest is left with all it had, on the card it had it on.
func TestSwapPutsBack(t *testing.T) {
	a, _, n := guestWithCards(t)
	ask(t, a, fmt.Sprintf(swapOrder, 1))
	calls := slices.Compact(slices.Sorted(slices.Values(n.calls)))
	tried := 0
	for _, c := range calls {
		if strings.HasPrefix(c, "announce") || strings.HasPrefix(c, "put 10.0.2.3 ") || strings.HasPrefix(c, "put 10.0.2.2 ") {
			continue // best effort
		}
		a, _, n := guestWithCards(t)
		n.fail = c
		got := ask(t, a, fmt.Sprintf(swapOrder, 1))
		if !strings.Contains(got, `"refused"`) || n.has(2) != everything || n.has(3) != "" {
			t.Errorf("%q failed: %s\neth0 has %s\neth1 has %s", c, got, n.has(2), n.has(3))
		}
		tried++
	}
	if tried < 8 {
		t.Errorf("only %d calls were failed: %q", tried, calls)
	}
}

func TestSwapRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *machine)
		order  string
		want   string
	}{
		"no carrier":   {func(m *machine) { m.put(netDir+"/eth1/carrier", "0") }, fmt.Sprintf(swapOrder, 1), "no carrier; nothing was moved"},
		"in a bridge":  {func(m *machine) { m.put(netDir+"/eth0/master", "-> ../br0") }, fmt.Sprintf(swapOrder, 1), "port of br0"},
		"under a VLAN": {func(m *machine) { m.put(netDir+"/eth0/upper_eth0.7", "-> ../eth0.7") }, fmt.Sprintf(swapOrder, 1), "carries eth0.7"},
		"no such card": {nil, `{"id":"1","verb":"swap-nic","wait_ms":20,"args":{"from":"` + macA + `","to":"52:54:00:00:00:0c"}}`, "is its driver loaded?"},
		"same card":    {nil, `{"id":"1","verb":"swap-nic","args":{"from":"` + macA + `","to":"` + strings.ToUpper(macA) + `"}}`, "two different"},
		"neither":      {nil, `{"id":"1","verb":"swap-nic","wait_ms":20,"args":{"from":"52:54:00:00:00:0c","to":"` + macB + `"}}`, "has no addresses either"},
	} {
		t.Run(name, func(t *testing.T) {
			a, m, n := guestWithCards(t)
			if c.change != nil {
				c.change(m)
			}
			got := ask(t, a, c.order)
			if !strings.Contains(got, c.want) || n.has(2) != everything || n.has(3) != "" {
				t.Errorf("%s\neth0 has %s", got, n.has(2))
			}
		})
	}
}

// TestEntryMoves looks at what an entry becomes on another card.
func TestEntryMoves(t *testing.T) {
	for _, e := range entriesOf(t) {
		moved := e.on(9)
		if got := indexOf(moved); got != 9 {
			t.Errorf("%s went to interface %d", e.Text, got)
		}
		again, err := parseEntry(e.Kind, moved.Message, 9)
		if err != nil || again.Text != e.Text {
			t.Errorf("%s became %s: %v", e.Text, again.Text, err)
		}
		attrs, err := attributes(moved.Message[headerSize[e.Kind]:])
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range attrs {
			if e.Kind == Address && a.kind == unix.IFA_LABEL || e.Kind == Neighbour && a.kind == unix.NDA_CACHEINFO {
				t.Errorf("%s took attribute %d along", e.Text, a.kind)
			}
			if e.Kind == Address && a.kind == unix.IFA_FLAGS && binary.NativeEndian.Uint32(a.data) != unix.IFA_F_NODAD {
				t.Errorf("%s: flags %#x", e.Text, a.data)
			}
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add(uint8(Address), message(Address, func(h []byte) { h[0], h[1], h[4] = unix.AF_INET, 24, 2 }, unix.IFA_ADDRESS, ip("10.0.2.15"), unix.IFA_LABEL, []byte("eth0\x00")))
	f.Add(uint8(Route), message(Route, func(h []byte) { h[0], h[4], h[7] = unix.AF_INET, unix.RT_TABLE_MAIN, unix.RTN_UNICAST }, unix.RTA_GATEWAY, ip("10.0.2.2"), unix.RTA_OIF, u32(2)))
	f.Add(uint8(Neighbour), message(Neighbour, func(h []byte) { h[0], h[4], h[8] = unix.AF_INET, 2, unix.NUD_REACHABLE }, unix.NDA_DST, ip("10.0.2.3"), unix.NDA_LLADDR, []byte{1, 2, 3, 4, 5, 6}))
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		e, err := parseEntry(Kind(kind%3), b, 2)
		if err != nil {
			return
		}
		if again, err := parseEntry(e.Kind, e.on(7).Message, 7); err != nil || again.Text != e.Text {
			t.Errorf("%q became %q: %v", e.Text, again.Text, err)
		}
	})
}

func TestAnnouncement(t *testing.T) {
	mac, err := parseMAC(macB)
	if err != nil {
		t.Fatal(err)
	}
	const arp = "ffffffffffff" + "52540000000b" + "0806" + "0001080006040001" + "52540000000b" + "0a00020f" + "000000000000" + "0a00020f"
	if got := fmt.Sprintf("%x", announcement(mac, netip.MustParseAddr("10.0.2.15"))); got != arp {
		t.Errorf("ARP %s", got)
	}
	f := announcement(mac, netip.MustParseAddr("2001:db8::15"))
	if len(f) != 86 || f[0] != 0x33 || f[54] != 136 {
		t.Errorf("advertisement %x", f)
	}
	// A receiver adds everything up, the checksum included, and gets all ones.
	if sum := checksum([16]byte(f[22:38]), [16]byte(f[38:54]), f[54:]); sum != 0 {
		t.Errorf("checksum is off by %#x", sum)
	}
	if _, err := parseMAC("52:54:00"); err == nil {
		t.Error("half a MAC address was read")
	}
}
