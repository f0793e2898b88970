package lease

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease/engine"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// lab is a consumer's host and producers' hosts on one switch; each producer owns the service's addresses.
type lab struct {
	consumer  *nettest.Namespace
	producers []*nettest.Namespace
	gates     []*overlay.Gate
	device    *overlay.Device
	data      *datapath
}

const service4, service6 = "192.0.2.80", "2001:db8::80"

func newLab(t testing.TB, producers int, vars map[string]any) *lab {
	t.Helper()
	l := &lab{consumer: nettest.New(t)}
	sw := nettest.NewSwitch(t)
	sw.Plug(nettest.End{On: l.consumer, Name: "eth0", Addresses: []string{"10.0.0.1/24", "fd00::1/64"}})
	for i := range producers {
		p := nettest.New(t)
		sw.Plug(nettest.End{On: p, Name: "eth0", Addresses: []string{fmt.Sprintf("10.0.0.1%d/24", i), fmt.Sprintf("fd00::1%d/64", i)}})
		p.ListenPacket("udp", "0.0.0.0:9") // nobody reads it; without it senders would get an error for every other packet
		p.IP("address add "+service4+"/32 dev lo", "address add "+service6+"/128 dev lo nodad")
		p.Run(func() {
			d, err := overlay.Ensure(overlay.Options{})
			if err != nil {
				t.Fatal(err)
			}
			g, err := overlay.OpenGate(overlay.GateOptions{Device: d})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { g.Close() })
			if err := g.Set(7, overlay.Delivery{Epoch: 1}); err != nil {
				t.Fatal(err)
			}
			l.gates = append(l.gates, g)
		})
		l.producers = append(l.producers, p)
	}
	l.consumer.Run(func() {
		var err error
		if l.device, err = overlay.Ensure(overlay.Options{}); err != nil {
			t.Fatal(err)
		}
		for _, a := range []string{service4, service6} {
			ip := netip.MustParseAddr(a)
			if err := l.device.Route(overlay.Route{To: netip.PrefixFrom(ip, ip.BitLen())}); err != nil {
				t.Fatal(err)
			}
		}
		if l.data, err = openDatapath("", l.device, 0, vars); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(l.data.close)
	l.data.begin(0, "s", nil)
	if _, err := l.data.setAddresses(map[netip.Addr]int{netip.MustParseAddr(service4): 0, netip.MustParseAddr(service6): 0}); err != nil {
		t.Fatal(err)
	}
	return l
}

// lend sets leases on the producers numbered, for a time.
func (l *lab) lend(t testing.TB, host string, ttl time.Duration, producers ...int) {
	t.Helper()
	now := time.Duration(bpf.BootNow())
	paths := map[netip.Addr]overlay.Path{}
	var using []engine.Using
	for _, i := range producers {
		u := engine.Using{Expires: now + ttl}
		u.Producer, u.Epoch = fmt.Sprintf("p%d", i), 1
		u.Target = engine.Target{Host: netip.MustParseAddr(fmt.Sprintf(host, i)), VNI: 7}
		l.consumer.Run(func() {
			way, err := overlay.PathTo(u.Target.Host)
			if err != nil {
				t.Fatal(err)
			}
			paths[u.Target.Host] = way
		})
		using = append(using, u)
	}
	l.data.set(0, using, paths, []uint32{1})
}

// TestTrafficReachesTheLeasedHost sends more than a megabyte of TCP, in large packets, over the overlay and back, and
// checks that connections spread over the leases and stay where they are.
func TestTrafficReachesTheLeasedHost(t *testing.T) {
	l := newLab(t, 2, nil)
	payload := strings.Repeat("0123456789abcdef", 1<<16)
	for _, tt := range []struct{ name, outer, address string }{
		{"IPv4 in IPv4", "10.0.0.1%d", service4},
		{"IPv6 in IPv6", "fd00::1%d", service6},
		{"IPv6 in IPv4", "10.0.0.1%d", service6},
		{"IPv4 in IPv6", "fd00::1%d", service4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l.lend(t, tt.outer, time.Minute, 0, 1)
			at := netip.AddrPortFrom(netip.MustParseAddr(tt.address), 80).String()
			for i, p := range l.producers {
				listener := p.Listen("tcp", at)
				go func() {
					for {
						c, err := listener.Accept()
						if err != nil {
							return
						}
						go func() {
							defer c.Close()
							n, _ := io.Copy(io.Discard, io.LimitReader(c, int64(len(payload))))
							fmt.Fprintf(c, "%d:%d", i, n)
						}()
					}
				}()
				t.Cleanup(func() { listener.Close() })
			}
			seen := map[string]int{}
			for range 12 {
				c := l.consumer.Dial("tcp", at)
				c.SetDeadline(time.Now().Add(10 * time.Second))
				if _, err := io.WriteString(c, payload); err != nil {
					t.Fatal(err)
				}
				answer, err := io.ReadAll(c)
				c.Close()
				if err != nil {
					t.Fatal(err)
				}
				seen[string(answer)]++
			}
			for i := range l.producers {
				if key := fmt.Sprintf("%d:%d", i, len(payload)); seen[key] == 0 {
					t.Errorf("producer %d got none of 12 connections: %v", i, seen)
				}
			}
		})
	}
	o, err := l.data.outcomes()
	if err != nil || o.Moved+o.Expired+o.NoLease+o.Malformed+o.NoRoom > 0 || o.Sent == 0 {
		t.Errorf("outcomes %+v, %v: want only sent", o, err)
	}
	for i, g := range l.gates {
		if c, err := g.Counters(); err != nil || c.Accepted == 0 || c.Stale+c.Closed+c.Unknown > 0 {
			t.Errorf("gate %d: %+v, %v: want only accepted", i, c, err)
		}
	}
}

// TestExpiredLeasePassesNothing stops renewing, as a dead or stopped agent does, and sends on. A program that leaves
// expiry to user space is caught.
func TestExpiredLeasePassesNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		vars map[string]any
		pass bool
	}{
		{"program", nil, false},
		{"mutant: expiry checked in user space only", map[string]any{"check_expiry": false}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, 1, tt.vars)
			conn := l.consumer.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr(service4), 9).String())
			defer conn.Close()
			accepted := func() uint64 {
				c, err := l.gates[0].Counters()
				check(t, err)
				return c.Accepted
			}
			l.lend(t, "10.0.0.1%d", time.Minute, 0)
			_, err := conn.Write([]byte("x"))
			check(t, err)
			until(t, "a packet passes while the lease lasts", func() bool { return accepted() == 1 })
			l.lend(t, "10.0.0.1%d", 0, 0)
			for range 100 {
				_, _ = conn.Write([]byte("x")) // may say that it was dropped
			}
			o, err := l.data.outcomes()
			check(t, err)
			if passed := accepted() > 1; passed != tt.pass {
				t.Errorf("packets after the lease's end passed: %v, want %v; outcomes %+v", passed, tt.pass, o)
			}
			if o.Expired != 100 && !tt.pass {
				t.Errorf("outcomes %+v, want 100 expired", o)
			}
		})
	}
}

// TestStaleEpochIsDropped raises the epoch that a producer's host accepts, as the host does that took it over.
func TestStaleEpochIsDropped(t *testing.T) {
	l := newLab(t, 1, nil)
	conn := l.consumer.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr(service4), 9).String())
	defer conn.Close()
	l.lend(t, "10.0.0.1%d", time.Minute, 0) // under epoch 1
	for _, step := range []struct {
		delivery overlay.Delivery
		want     overlay.GateCounters
	}{
		{overlay.Delivery{Epoch: 1}, overlay.GateCounters{Accepted: 1}},
		{overlay.Delivery{Epoch: 2}, overlay.GateCounters{Accepted: 1, Stale: 1}},
		{overlay.Delivery{Epoch: 0xffff}, overlay.GateCounters{Accepted: 2, Stale: 1}}, // 1 is two after 65535
		{overlay.Delivery{Closed: true}, overlay.GateCounters{Accepted: 2, Stale: 1, Closed: 1}},
		{overlay.Delivery{}, overlay.GateCounters{Accepted: 3, Stale: 1, Closed: 1}},
	} {
		check(t, l.gates[0].Set(7, step.delivery))
		_, err := conn.Write([]byte("x"))
		check(t, err)
		var got overlay.GateCounters
		until(t, fmt.Sprintf("%+v counts %+v", step.delivery, step.want), func() bool {
			got, err = l.gates[0].Counters()
			return err == nil && got == step.want
		})
	}
}
