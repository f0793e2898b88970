package vni

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
)

// BenchmarkSwitch holds the step by which a VNI goes to another instance, one map update, against the kernel's way:
// moving the link to the other instance's namespace, its address, and up again. Both are done in each round.
func BenchmarkSwitch(b *testing.B) {
	f := newFence(b)
	f.know(b, 71)
	host, one, other := nettest.New(b), nettest.New(b), nettest.New(b)
	nettest.Veth(b, nettest.End{On: host, Name: "v71"}, nettest.End{On: one, Name: "eth0", Addresses: []string{"10.1.0.7/24"}})
	var switches, moves []float64
	from, to := one, other
	epoch := uint64(0)
	for b.Loop() {
		epoch++
		began := time.Now()
		if err := f.Attach(71, Holding{Link: 1 + int(epoch%2), Epoch: epoch, MAC: vniMAC}); err != nil {
			b.Fatal(err)
		}
		switches = append(switches, float64(time.Since(began)))
		began = time.Now()
		if err := move(from, to); err != nil {
			b.Fatal(err)
		}
		moves = append(moves, float64(time.Since(began)))
		from, to = to, from
	}
	b.ReportMetric(median(switches), "ns-switch")
	b.ReportMetric(median(moves), "ns-move")
	b.ReportMetric(median(switches)/median(moves), "x-move")
}

// move takes eth0 from one namespace to another and makes it serve there.
func move(from, to *nettest.Namespace) (err error) {
	from.Run(func() {
		var c *rtnetlink.Conn
		if c, err = rtnetlink.Dial(nil); err != nil {
			return
		}
		defer c.Close()
		index := uint32(from.Index("eth0"))
		err = c.Link.Set(&rtnetlink.LinkMessage{Index: index, Attributes: &rtnetlink.LinkAttributes{NetNS: rtnetlink.NetNSForFD(uint32(to.FD()))}})
	})
	if err != nil {
		return fmt.Errorf("move: %w", err)
	}
	to.Run(func() {
		var c *rtnetlink.Conn
		if c, err = rtnetlink.Dial(nil); err != nil {
			return
		}
		defer c.Close()
		index := uint32(to.Index("eth0"))
		err = errors.Join(
			c.Address.New(&rtnetlink.AddressMessage{
				Family: unix.AF_INET, PrefixLength: 24, Index: index,
				Attributes: &rtnetlink.AddressAttributes{Address: []byte{10, 1, 0, 7}, Local: []byte{10, 1, 0, 7}},
			}),
			c.Link.Set(&rtnetlink.LinkMessage{Index: index, Flags: unix.IFF_UP, Change: unix.IFF_UP}),
		)
	})
	return err
}

// BenchmarkKilled kills the instance that holds a VNI under a stream of 1,000 datagrams a second; BenchmarkSilent
// stops its host's agent. What is lost, and how long until the VNI is confirmed elsewhere.
func BenchmarkKilled(b *testing.B) {
	benchmarkFailOver(b, func(_ *host, i *instance) error { i.holder.Kill(); return nil })
}

func BenchmarkSilent(b *testing.B) {
	benchmarkFailOver(b, func(h *host, _ *instance) error { return h.agent.Process.Signal(syscall.SIGSTOP) })
}

func benchmarkFailOver(b *testing.B, fail func(*host, *instance) error) {
	var lost, moved []float64
	for b.Loop() {
		w := newWorld(b, 2, 1)
		ra, rb := w.hosts[0].instance("a"), w.hosts[1].instance("b")
		w.define("h1/a", "h2/b")
		w.serve(0, Config{})
		w.run2()
		s := w.stream(1, w.told)
		ra.until(b, 100)
		before, at := s.Sent(), time.Now()
		if err := fail(w.hosts[0], ra); err != nil {
			b.Fatal(err)
		}
		_, since := w.await("VNI at h2/b", upAt("h2/b"))
		rb.until(b, before)
		last := s.Sent()
		rb.until(b, last)
		s.Stop()
		lost = append(lost, float64(nettest.Lost(before, last, ra.Receiver, rb.Receiver)))
		moved = append(moved, float64(since.Sub(at)))
	}
	b.ReportMetric(median(lost), "lost")
	b.ReportMetric(slices.Max(lost), "lost-max")
	b.ReportMetric(median(moved), "ns-moved")
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
