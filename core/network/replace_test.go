package network

import (
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/hw/nic/netlab"
)

// lifetime is how long c0 still has an address, 0 for one that it has not.
func lifetime(t *testing.T, address string) time.Duration {
	t.Helper()
	_, after, found := strings.Cut(netlab.Run(t, "ip -4 addr show dev c0"), "inet "+address+"/")
	if !found {
		return 0
	}
	_, after, _ = strings.Cut(after, "valid_lft ")
	life, _, _ := strings.Cut(after, " ")
	if life == "forever" {
		return math.MaxInt64
	}
	d, err := time.ParseDuration(strings.TrimSuffix(life, "ec"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestReplace goes from one configuration to the next: what the next one does not name is gone or about to go when Replace
// returns.
func TestReplace(t *testing.T) {
	if !netlab.Alone(t) {
		return
	}
	l := newLab(t)
	l.serveDHCP(&dhcpServer{address: "10.7.0.77", lease: time.Hour})
	netlab.Run(t, "ip link add other0 type veth peer name other1")
	netlab.Run(t, "ip link set other1 up")
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	var m *Management
	step := func(c Config, address string, gone ...string) string {
		t.Helper()
		c.ResolvConf = resolv
		m = l.replace(m, c)
		now := netlab.Run(t, "ip -4 addr show dev c0")
		for _, a := range gone {
			if life := lifetime(t, a); life > linger {
				t.Errorf("%s stays for %s", a, life)
			}
		}
		await(t, m, address, func(s Status) bool { return has(s, address+"/24") && s.Problem == "" })
		return now
	}
	static := func(addresses ...string) Config {
		c := Config{NoDHCP: true}
		for _, a := range addresses {
			c.Addresses = append(c.Addresses, netip.MustParsePrefix(a+"/24"))
		}
		return c
	}
	first := static("10.7.0.50", "10.7.0.60")
	first.Gateway = []netip.Addr{netip.MustParseAddr("10.7.0.1")}
	first.DNS = []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	step(first, "10.7.0.50")

	step(static("10.7.0.60"), "10.7.0.60", "10.7.0.50")
	if routes := netlab.Run(t, "ip -4 route show default"); routes != "" {
		t.Errorf("a gateway is left: %s", routes)
	}
	if text, err := os.ReadFile(resolv); err != nil || strings.Contains(string(text), "nameserver") {
		t.Errorf("resolv.conf: %q, %v", text, err)
	}

	step(Config{}, "10.7.0.77", "10.7.0.60")
	if life := lifetime(t, "10.7.0.77"); life > time.Hour {
		t.Errorf("the kernel keeps the lease for %s", life)
	}
	if now := step(Config{Search: []string{"lab.example"}}, "10.7.0.77"); !strings.Contains(now, "10.7.0.77/24") {
		t.Errorf("the lease was given up:\n%s", now)
	}

	if now := step(static("10.7.0.77"), "10.7.0.77"); !strings.Contains(now, "10.7.0.77/24") {
		t.Errorf("the address was given up:\n%s", now)
	}
	if life := lifetime(t, "10.7.0.77"); life < math.MaxInt64 {
		t.Errorf("a static address ends after %s", life)
	}
	if routes := netlab.Run(t, "ip -4 route show default"); routes != "" {
		t.Errorf("the lease's route is left: %s", routes)
	}

	other := static("10.9.0.1")
	other.NIC = "mac:02:00:00:00:00:09"
	step(other, "10.9.0.1", "10.7.0.77")
	if life := lifetime(t, "10.7.0.77"); life > 0 {
		t.Errorf("the address of another NIC stays for %s", life)
	}
	if link := netlab.Run(t, "ip link show dev c0"); strings.Contains(link, ",UP") {
		t.Errorf("the NIC that was left is up: %s", link)
	}
}
