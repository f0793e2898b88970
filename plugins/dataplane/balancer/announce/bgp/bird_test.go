package bgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bird is a router in a namespace of its own; ours is at 192.0.2.1 and 2001:db8::1, bird at .2 and ::2.
type bird struct {
	t   *testing.T
	box *nettest.Namespace
	ns  *nettest.Namespace
	dir string
}

const birdConfig = `
log "%[1]s/log" all;
router id 192.0.2.2;
protocol device { scan time 1; }
protocol bgp box {
  local 192.0.2.2 as 65001;
  neighbor 192.0.2.1 as %[2]d;
  passive on;
  graceful restart aware;
  ipv4 { import all; export none; };
  ipv6 { import all; export none; };
}
`

func newBird(t *testing.T, as uint32) *bird {
	b := &bird{t: t, box: nettest.New(t), ns: nettest.New(t), dir: t.TempDir()}
	nettest.Veth(t, nettest.End{On: b.box, Name: "data0", Addresses: []string{"192.0.2.1/24", "2001:db8::1/64"}},
		nettest.End{On: b.ns, Name: "lan0", Addresses: []string{"192.0.2.2/24", "2001:db8::2/64"}})
	if err := os.WriteFile(filepath.Join(b.dir, "conf"), fmt.Appendf(nil, birdConfig, b.dir, as), 0o600); err != nil {
		t.Fatal(err)
	}
	b.ns.Start(exec.Command("bird", "-f", "-c", filepath.Join(b.dir, "conf"), "-s", filepath.Join(b.dir, "socket"), "-P", filepath.Join(b.dir, "pid")))
	b.until("bird answers", func() bool { return strings.Contains(b.ask("show status"), "Daemon is up") })
	return b
}

// ask is birdc, without its terminal.
func (b *bird) ask(command string) string {
	c, err := net.Dial("unix", filepath.Join(b.dir, "socket"))
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintln(c, command)
	fmt.Fprintln(c, "show nothing") // an error line, which ends the answer to what came before
	var all strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(all.String(), "\n9") && !strings.Contains(all.String(), "syntax error") {
		n, err := c.Read(buf)
		all.Write(buf[:n])
		if err != nil {
			break
		}
	}
	return all.String()
}

func (b *bird) until(what string, ok func() bool) {
	b.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(15 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(b.dir, "log"))
			b.t.Fatalf("not within 15 s: %s\n%s\n%s", what, b.ask("show route all"), log)
		}
	}
}

func (b *bird) speaker() Speaker {
	return Speaker{
		AS: 4200000001, RouterID: netip.MustParseAddr("192.0.2.1"), NextHop6: netip.MustParseAddr("2001:db8::1"),
		HoldTime: 9 * time.Second, RestartTime: time.Minute,
		Neighbours: []Neighbour{{Address: netip.MustParseAddrPort("192.0.2.2:179"), AS: 65001}},
	}
}

func (b *bird) start(s Speaker, restarted bool) *Announcer {
	return Start(Options{Speaker: s, Restarted: restarted, Dial: func(ctx context.Context, network, address string) (c net.Conn, err error) {
		b.box.Run(func() { c, err = (&net.Dialer{}).DialContext(ctx, network, address) })
		return c, err
	}})
}

func addresses(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// BIRD takes our routes of both families with the right attributes, follows changes, and keeps the routes while the
// announcer's process is gone and comes back.
func TestBird(t *testing.T) {
	b := newBird(t, 4200000001)
	a := b.start(b.speaker(), false)
	a.Announce(addresses("198.51.100.1", "198.51.100.2", "2001:db8:1::1"))
	routes := func(want ...string) func() bool {
		return func() bool {
			all := b.ask("show route all")
			for _, w := range want {
				if strings.HasPrefix(w, "-") == strings.Contains(all, strings.TrimPrefix(w, "-")) {
					return false
				}
			}
			return true
		}
	}
	b.until("all routes", routes("198.51.100.1/32", "198.51.100.2/32", "2001:db8:1::1/128",
		"BGP.as_path: 4200000001", "BGP.next_hop: 192.0.2.1", "BGP.next_hop: 2001:db8::1"))
	a.Announce(addresses("198.51.100.2", "198.51.100.3", "2001:db8:1::2"))
	b.until("changed routes", routes("-198.51.100.1/32", "198.51.100.2/32", "198.51.100.3/32", "-2001:db8:1::1/128", "2001:db8:1::2/128"))
	if s := a.Sessions()[0]; !s.Established || s.Routes != 3 || s.Problem != "" {
		t.Errorf("session %+v", s)
	}

	// The process ends as by kill -9: the connection breaks without NOTIFICATION.
	a.Close()
	b.until("bird has noticed", func() bool { return !strings.Contains(b.ask("show protocols"), "Established") })
	if !routes("198.51.100.2/32", "198.51.100.3/32", "2001:db8:1::2/128")() {
		t.Errorf("routes are gone with the session:\n%s", b.ask("show route all"))
	}
	// Its successor announces one of them no more, which goes with the end-of-RIB marker.
	a = b.start(b.speaker(), true)
	a.Announce(addresses("198.51.100.2", "2001:db8:1::2"))
	b.until("routes of the successor", routes("198.51.100.2/32", "-198.51.100.3/32", "2001:db8:1::2/128"))
	a.Withdraw()
	b.until("no routes", routes("-198.51.100.2/32", "-2001:db8:1::2/128"))
	a.Close()
}

// Many routes take several messages.
func TestManyRoutes(t *testing.T) {
	b := newBird(t, 4200000001)
	a := b.start(b.speaker(), false)
	defer a.Close()
	var many []netip.Addr
	for i := range 1000 {
		many = append(many, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}))
	}
	a.Announce(many)
	b.until("1,000 routes", func() bool { return strings.Contains(b.ask("show route count"), "1000 of 1000") })
}

// A router of another AS than configured is not spoken to, and it is said why.
func TestWrongAS(t *testing.T) {
	b := newBird(t, 4200000001)
	s := b.speaker()
	s.Neighbours[0].AS = 65009
	a := b.start(s, false)
	defer a.Close()
	b.until("a reason", func() bool { return strings.Contains(a.Sessions()[0].Problem, "AS 65001, not 65009") })
}
