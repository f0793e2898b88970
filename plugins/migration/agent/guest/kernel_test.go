package guest

import (
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// namespace puts the test's thread into a network namespace of its own, with two cards whose other ends are up. The thread
// ends with the test, and the namespace with it.
func namespace(t *testing.T) (ip func(args ...string) string) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the runtime ends the thread
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	ip = func(args ...string) string {
		t.Helper()
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	ip("link", "set", "lo", "up")
	for _, card := range []string{"eth0", "eth1"} {
		ip("link", "add", card, "type", "veth", "peer", "name", card+"-peer")
		ip("link", "set", card+"-peer", "up")
	}
	ip("link", "set", "eth0", "up")
	return ip
}

// TestMoveInKernel moves what a common server has, both families, a table and a metric of its own, and back.
func TestMoveInKernel(t *testing.T) {
	ip := namespace(t)
	for _, cmd := range []string{
		"addr add 192.0.2.15/24 brd + dev eth0", "addr add 192.0.2.16/24 dev eth0 noprefixroute", "addr add 2001:db8::15/64 dev eth0 nodad",
		"neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev eth0 nud reachable", "neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
		"route add default via 192.0.2.1 dev eth0 src 192.0.2.15 metric 100", "route add 198.51.100.0/24 via 192.0.2.9 dev eth0 table 77",
		"route add 203.0.113.7/32 dev eth0 scope link mtu 1400", "-6 route add default via 2001:db8::1 dev eth0 metric 50",
	} {
		ip(strings.Fields(cmd)...)
	}
	shown := func(card string) string {
		var out []string
		for _, cmd := range []string{"-o addr show dev " + card + " scope global", "route show table all type unicast dev " + card, "-6 route show table all dev " + card} {
			for line := range strings.Lines(ip(strings.Fields(cmd)...)) {
				if strings.Contains(line, "fe80::") || strings.Contains(line, "ff00::") || strings.Contains(line, "local ") {
					continue
				}
				// The number and name of the card, and what the kernel says of it, differ.
				line = strings.NewReplacer(card, "CARD", "\\", "").Replace(line)
				_, rest, isAddress := strings.Cut(line, ": ")
				if isAddress {
					line = rest
				}
				out = append(out, strings.Join(strings.Fields(strings.ReplaceAll(line, "nodad", "")), " "))
			}
		}
		return strings.Join(out, "\n")
	}
	before := shown("eth0")
	if strings.Count(before, "\n") < 7 {
		t.Fatalf("eth0 has only %s", before)
	}
	a := New(Options{Root: t.TempDir()})
	move := func(from, to string) wire.NICSwap {
		t.Helper()
		f, o := card{model.GuestNIC{Name: from, MAC: macA}, numberOf(t, ip, from)}, card{model.GuestNIC{Name: to, MAC: macB}, numberOf(t, ip, to)}
		if err := a.net.Up(o.index); err != nil {
			t.Fatal(err)
		}
		h, err := a.has(f, true)
		if err != nil {
			t.Fatal(err)
		}
		s, err := a.move(f, o, h, wire.NICSwap{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := move("eth0", "eth1"); len(s.Addresses) != 3 || s.Neighbours != 2 {
		t.Errorf("moved %+v", s)
	}
	if after := shown("eth1"); sorted(after) != sorted(before) {
		t.Errorf("eth1 has\n%s\n\neth0 had\n%s", sorted(after), sorted(before))
	}
	if left := shown("eth0"); left != "" {
		t.Errorf("left on eth0: %s", left)
	}
	if n := ip("neigh", "show", "dev", "eth1"); !strings.Contains(n, "192.0.2.1 lladdr 02:00:00:00:00:01") || !strings.Contains(n, "192.0.2.9 lladdr 02:00:00:00:00:09 PERMANENT") {
		t.Errorf("neighbours of eth1: %s", n)
	}
	move("eth1", "eth0")
	if after := shown("eth0"); sorted(after) != sorted(before) {
		t.Errorf("eth0 has\n%s\n\nand had\n%s", sorted(after), sorted(before))
	}
}

// TestSharedRoute: a route over several cards is not left behind to lose one of its ways with the card: nothing is moved.
func TestSharedRoute(t *testing.T) {
	ip := namespace(t)
	ip("link", "set", "eth1", "up")
	ip("addr", "add", "192.0.2.15/24", "dev", "eth0")
	ip("addr", "add", "198.51.100.15/24", "dev", "eth1")
	ip(strings.Fields("route add default nexthop via 192.0.2.1 dev eth0 nexthop via 198.51.100.1 dev eth1")...)
	for card, index := range map[string]uint32{"eth0": numberOf(t, ip, "eth0"), "eth1": numberOf(t, ip, "eth1")} {
		if list, err := (kernelNetwork{}).Entries(Route, index); err == nil || !strings.Contains(err.Error(), "several cards") {
			t.Errorf("routes of %s: %+v, %v", card, list, err)
		}
	}
	if _, err := (kernelNetwork{}).Entries(Route, 1); err != nil {
		t.Errorf("of a card that is none of them: %v", err)
	}
}

// numberOf is the number of a card.
func numberOf(t *testing.T, ip func(args ...string) string, card string) uint32 {
	t.Helper()
	number, _, _ := strings.Cut(ip("-o", "link", "show", "dev", card), ":")
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func sorted(lines string) string {
	list := strings.Split(lines, "\n")
	slices.Sort(list)
	return strings.Join(slices.Compact(list), "\n")
}
