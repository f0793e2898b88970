package port

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
)

var (
	mac = [6]byte{2, 0, 0, 0, 0, 0x71}
	v4  = netip.MustParseAddr("10.1.0.7")
	v6  = netip.MustParseAddr("2001:db8::7")
)

const wait = 10 * time.Second

// The frames, byte by byte (RFC 826, RFC 4861); that their checksums are right the kernel says in the test below.
func TestFrames(t *testing.T) {
	for name, c := range map[string]struct {
		frame []byte
		want  string
	}{
		"gratuitous ARP": {Announcement(mac, v4), "ffffffffffff020000000071 0806 0001080006040001 020000000071 0a010007 000000000000 0a010007"},
		"advertisement": {Announcement(mac, v6), "333300000001020000000071 86dd 6000000000203aff 20010db8000000000000000000000007 " +
			"ff020000000000000000000000000001 8800 f8ae 20000000 20010db8000000000000000000000007 0201020000000071"},
		"ARP probe": {Question([6]byte{2, 9}, mac, v4), "020000000071020900000000 0806 0001080006040001 020900000000 00000000 000000000000 0a010007"},
	} {
		if got := hex.EncodeToString(c.frame); got != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%s is\n%s, want\n%s", name, got, c.want)
		}
	}
}

// A probe is answered by a real stack, an announcement moves a real neighbour entry.
func TestFramesAndTheKernel(t *testing.T) {
	host, guest := nettest.New(t), nettest.New(t)
	nettest.Veth(t, nettest.End{On: host, Name: "p0", Addresses: []string{"10.1.0.1/24", "2001:db8::1/64"}},
		nettest.End{On: guest, Name: "eth0", MAC: net.HardwareAddr(mac[:]).String(), Addresses: []string{"10.1.0.7/24", "2001:db8::7/64"}})
	for _, a := range []netip.Addr{v4, v6} {
		t.Run(a.String(), func(t *testing.T) {
			said := make(chan bool, 10)
			stop := host.Go(func(ctx context.Context) {
				w, err := OpenWire(host.Index("p0"), true)
				if err != nil {
					t.Error(err)
					return
				}
				defer w.Close()
				w.Probe(ctx, mac, a, 20*time.Millisecond, 3, func(alive bool) { said <- alive })
			})
			expect(t, said, true)
			guest.IP("link set eth0 arp off", "address flush dev eth0")
			expect(t, said, false)
			guest.IP("link set eth0 arp on", "address add 10.1.0.7/24 dev eth0", "address add 2001:db8::7/64 dev eth0 nodad")
			expect(t, said, true)
			stop()
		})
	}
	host.IP("neighbour add 10.1.0.7 lladdr 02:00:00:00:00:09 dev p0 nud stale", "neighbour add 2001:db8::7 lladdr 02:00:00:00:00:09 dev p0 nud stale")
	guest.Run(func() {
		w, err := OpenWire(guest.Index("eth0"), false)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		for _, a := range []netip.Addr{v4, v6} {
			if err := w.Send(Announcement(mac, a)); err != nil {
				t.Fatal(err)
			}
		}
	})
	for deadline := time.Now().Add(wait); strings.Count(host.Exec("ip", "neighbour", "show", "dev", "p0"), "lladdr 02:00:00:00:00:71") < 2; {
		if time.Now().After(deadline) {
			t.Fatalf("neighbours after the announcements:\n%s", host.Exec("ip", "neighbour", "show", "dev", "p0"))
		}
		time.Sleep(time.Millisecond)
	}
}

func expect(t *testing.T, said <-chan bool, want bool) {
	t.Helper()
	select {
	case got := <-said:
		if got != want {
			t.Fatalf("alive: %t, want %t", got, want)
		}
	case <-time.After(wait):
		t.Fatalf("waited %v for alive: %t", wait, want)
	}
}

// Ends are plugged in complete, and their links say what becomes of them.
func TestPlugAndWatch(t *testing.T) {
	host, guest := nettest.New(t), nettest.New(t)
	nettest.Veth(t, nettest.End{On: host, Name: "up0"}, nettest.End{On: guest, Name: "far0"})
	events := make(chan Link, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	var done func()
	host.Run(func() {
		now, wait, err := Links(ctx, func(l Link) { events <- l })
		if err != nil {
			t.Fatal(err)
		}
		done = wait
		if len(now) != 2 {
			t.Errorf("links at first: %+v", now)
		}
	})
	see := func(what string, ok func(Link) bool) Link {
		t.Helper()
		for deadline := time.After(wait); ; {
			select {
			case l := <-events:
				if ok(l) {
					return l
				}
			case <-deadline:
				t.Fatalf("never saw %s", what)
			}
		}
	}
	host.Run(func() {
		e := End{Device: "v71", Netns: guest.Path(), Inner: "in0", MAC: mac, Addresses: []netip.Addr{v4, v6}}
		if err := PlugVeth(e); err != nil {
			t.Fatal(err)
		}
		if err := PlugVeth(e); err == nil {
			t.Error("plugged in twice")
		}
		if err := PlugTap(End{Device: "t71"}); err != nil {
			t.Fatal(err)
		}
		if err := PlugMacvtap(End{Device: "m71", Lower: "up0", MAC: mac}); err != nil {
			t.Fatal(err)
		}
	})
	see("the veth's carrier", func(l Link) bool { return l.Name == "v71" && l.Carrier })
	see("the tap, which nobody has open", func(l Link) bool { return l.Name == "t71" && !l.Carrier })
	see("the macvtap", func(l Link) bool { return l.Name == "m71" && l.Carrier })
	inner := guest.Exec("ip", "-o", "address", "show", "dev", "in0")
	if !strings.Contains(inner, "10.1.0.7/32") || !strings.Contains(inner, "2001:db8::7/128") || guest.Link("in0").HardwareAddr.String() != "02:00:00:00:00:71" {
		t.Errorf("the inner end is not complete:\n%s", inner)
	}
	guest.IP("link set in0 down")
	see("the loss of its carrier", func(l Link) bool { return l.Name == "v71" && !l.Carrier })
	guest.IP("link delete in0")
	see("its end", func(l Link) bool { return l.Gone && l.Name == "v71" })
	cancel()
	done()
}

// Whatever of what happens is heard of, late or not at all, in the end each link is known as it is.
func TestWatchEndsAtTheTruth(t *testing.T) {
	var noise []string
	for i := range 600 { // more than the socket holds
		noise = append(noise, fmt.Sprintf("link set n0 mtu %d", 1000+i))
	}
	for name, happens := range map[string][]string{
		"a link is deleted among many changes": append(slices.Clone(noise), "link delete p0"),
		"one loses its carrier, among many":    append(append([]string{"link set p0 mtu 1400"}, noise...), "link set p0 down"),
		"one leaves a bridge":                  {"link add br0 type bridge", "link set p0 master br0", "link set p0 nomaster"},
	} {
		t.Run(name, func(t *testing.T) {
			host, guest := nettest.New(t), nettest.New(t)
			nettest.Veth(t, nettest.End{On: host, Name: "p0"}, nettest.End{On: guest, Name: "far0"})
			nettest.Veth(t, nettest.End{On: host, Name: "n0"}, nettest.End{On: guest, Name: "far1"})
			before := host.Index("p0")
			busy, events := make(chan struct{}), make(chan Link, 10_000)
			ctx, cancel := context.WithCancel(t.Context())
			var ended func()
			host.Run(func() {
				_, wait, err := Links(ctx, func(l Link) { <-busy; events <- l })
				if err != nil {
					t.Fatal(err)
				}
				ended = wait
			})
			host.IP(happens...)
			close(busy)
			var last Link
			gone := false
			for _, mark := range []string{"end0", "end1"} { // when the second is heard of, nothing waits in the socket from before
				host.IP("link add " + mark + " type veth")
				for l := (Link{}); l.Name != mark; {
					select {
					case l = <-events:
					case <-time.After(wait):
						t.Fatalf("never saw %s", mark)
					}
					if l.Index == before {
						last, gone = l, gone || l.Gone
					}
				}
			}
			want := Link{Index: before, Name: "p0", Gone: true}
			host.Run(func() {
				if i, err := net.InterfaceByIndex(before); err == nil {
					want.Gone, want.Carrier = false, i.Flags&net.FlagRunning != 0
				}
			})
			if last != want || gone != want.Gone {
				t.Errorf("known at last: %+v, gone meanwhile: %t, want %+v", last, gone, want)
			}
			cancel()
			ended()
		})
	}
}

func TestProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	said := make(chan bool, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Process(ctx, file, func(alive bool) { said <- alive })
	}()
	expect(t, said, false)
	cmd := exec.Command("cat")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, said, true)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	expect(t, said, false)
	cancel()
	<-done
}

// A process that has ended and that nobody has waited for yet keeps its number; it does not live.
func TestEndedProcess(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(file, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	Process(ctx, file, func(alive bool) {
		if alive {
			t.Error("said to live")
		}
		cancel()
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add(Announcement(mac, v4), true)
	f.Add(Announcement(mac, v6), false)
	f.Fuzz(func(_ *testing.T, frame []byte, four bool) {
		a := v6
		if four {
			a = v4
		}
		Answers(frame, a)
	})
}
