package table

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/peers"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

const (
	benchRounds = 9
	benchRuns   = 200_000
	benchFlows  = 32768
)

// bench is a table with 1,000 VIPs and 100 backends, 32,768 flows of each family, and its peers with the same.
type bench struct {
	*rig
	peers         *peers.Peers
	frame, frame6 []byte
}

func newBench(b *testing.B) *bench {
	m := &bench{rig: newRig(b, Options{Flows: 1 << 17}, 100)}
	vips := make([]VIP, 998)
	addresses := []netip.Addr{vip4}
	for i := range vips {
		vips[i] = VIP{Address: netip.AddrFrom4([4]byte{192, 1, byte(i >> 8), byte(i)}), Protocol: TCP, First: 80, Last: 80}
		addresses = append(addresses, vips[i].Address)
	}
	m.setVIPs(append(vips, VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80}, VIP{Address: vip6, Protocol: TCP, First: 80, Last: 80})...)
	var hosts []netip.Addr
	for i := range 100 {
		hosts = append(hosts, backendAddress(i))
	}
	var err error
	m.peers, err = peers.Load(addresses, hosts)
	m.must(err)
	b.Cleanup(m.peers.Close)
	segment := func(ip packet.IP, port int, flags uint8) []byte {
		return packet.Frame(boxMAC, routerMAC, packet.TCP{Src: uint16(port), Dst: 80, Flags: flags}.Segment(ip, big(15)))
	}
	for i := range benchFlows {
		for _, ip := range []packet.IP{to4, to6} {
			m.send(segment(ip, peers.FirstPort+i, packet.SYN))
			m.send(segment(ip, peers.FirstPort+i, packet.ACK))
		}
	}
	m.frame, m.frame6 = segment(to4, peers.FirstPort, packet.ACK), segment(to6, peers.FirstPort, packet.ACK)
	return m
}

// BenchmarkPacket: ns for each packet of established flows, beside the harness's floor and the peers, in turns.
func BenchmarkPacket(b *testing.B) {
	m := newBench(b)
	for _, flows := range []int{1, 256, benchFlows} {
		h, err := peers.NewHarness(len(m.frame), flows)
		m.must(err)
		h6, err := peers.NewHarness(len(m.frame6), flows)
		m.must(err)
		subjects := []struct {
			name    string
			prog    *ebpf.Program
			harness *peers.Harness
			frame   []byte
		}{
			{"floor", m.peers.Programs[peers.Floor], h, m.frame},
			{"stateless", m.peers.Programs[peers.Stateless], h, m.frame},
			{"lru", m.peers.Programs[peers.LRU], h, m.frame},
			{"ipv4", m.Program(), h, m.frame},
			{"ipv6", m.Program(), h6, m.frame6},
		}
		seen := make([][]float64, len(subjects))
		done := make(chan struct{})
		go func() {
			defer close(done)
			alone(b, 0)
			for range benchRounds * b.N {
				for i, s := range subjects {
					d, err := measure(s.harness, s.prog, s.frame)
					if err != nil {
						b.Error(err)
						return
					}
					seen[i] = append(seen[i], d)
				}
			}
		}()
		<-done
		for i, s := range subjects {
			b.ReportMetric(median(seen[i]), fmt.Sprintf("ns-%s-%d", s.name, flows))
		}
		h.Close()
		h6.Close()
	}
	b.ReportMetric(0, "ns/op")
}

// measure is the mean of one batch of runs, by the kernel's clock around its loop, in whole nanoseconds.
func measure(h *peers.Harness, prog *ebpf.Program, frame []byte) (float64, error) {
	d, err := h.Run(prog, frame, benchRuns, peers.AnyCPU)
	return float64(d), err
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkTwoCPUs: packets a second of two pinned threads, as a multiple of one's.
func BenchmarkTwoCPUs(b *testing.B) {
	if runtime.NumCPU() < 2 {
		b.Fatal("two CPUs are needed")
	}
	m := newBench(b)
	n := nettest.New(b)
	n.IP("link add v0 type veth peer name v1")
	var hs [2]*peers.Harness
	for i := range hs {
		var err error
		hs[i], err = peers.NewHarness(len(m.frame), 256)
		m.must(err)
		defer hs[i].Close()
		n.Run(func() {
			a, err := bpf.AttachXDP(nil, hs[i].Program(), n.Index(fmt.Sprintf("v%d", i)))
			m.must(err)
			b.Cleanup(func() { _ = a.Close() })
		})
	}
	round := func(threads int) (perSecond float64) {
		var group sync.WaitGroup
		var mu sync.Mutex
		for i := range threads {
			group.Go(func() {
				alone(b, i)
				ns, err := measure(hs[i], m.Program(), m.frame)
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				perSecond += 1e9 / ns
			})
		}
		group.Wait()
		return perSecond
	}
	var ratios []float64
	for range benchRounds * b.N {
		one := (round(1) + round(1)) / 2
		ratios = append(ratios, round(2)/one)
	}
	b.ReportMetric(median(ratios), "two-to-one")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRing: until a ring of 65,537 slots is in force, beside the swap of a map inside an ARRAY_OF_MAPS.
func BenchmarkRing(b *testing.B) {
	m := newBench(b)
	var inner [2]*ebpf.Map
	for i := range inner {
		var err error
		inner[i], err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: maxRing})
		m.must(err)
		defer inner[i].Close()
	}
	rings := [2][]BackendID{spread(m.backends, maxRing), spread(m.backends[1:], maxRing)}
	m.setRing(m.vips[0], rings[1])
	m.setRing(m.vips[0], rings[0])
	var ours, swaps []float64
	for i := range 20 * b.N {
		m.must(m.clock.await(m.clock.now)) // a grace period passes by itself between two changes
		began := time.Now()
		m.setRing(m.vips[0], rings[(i+1)%2])
		ours = append(ours, float64(time.Since(began)))
		began = time.Now()
		m.must(m.peers.Maps["peer_rings"].Put(uint32(0), inner[i%2]))
		swaps = append(swaps, float64(time.Since(began)))
	}
	b.ReportMetric(median(ours), "ns-ring")
	b.ReportMetric(median(swaps), "ns-swap")
	b.ReportMetric(0, "ns/op")
}
