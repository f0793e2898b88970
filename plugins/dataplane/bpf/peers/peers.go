// Package peers holds what the balancer's datapath is measured with and against: a harness that makes
// BPF_PROG_TEST_RUN's repetitions honest, the floor of what any tunnelling balancer costs, and two balancers of the
// usual kind, one without state and one with an LRU hash. No product code imports it.
package peers

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
)

// Harness runs a program again and again, each time on a packet of the next flow.
type Harness struct {
	loaded *bpf.Loaded
}

// FirstPort is the client's port of the first flow.
const FirstPort = 1024

// NewHarness makes one for frames of this length and this many flows, which differ in the client's port.
func NewHarness(frame, flows int) (*Harness, error) {
	spec, err := loadPeers()
	if err != nil {
		return nil, err
	}
	for name := range spec.Programs {
		if name != "again" {
			delete(spec.Programs, name)
		}
	}
	for name := range spec.Maps {
		if name != "under_test" && name != ".rodata" {
			delete(spec.Maps, name)
		}
	}
	l, err := bpf.Load(spec, bpf.LoadOptions{Vars: map[string]any{"frame": uint32(frame), "flows": uint32(flows)}})
	if err != nil {
		return nil, err
	}
	return &Harness{l}, nil
}

// AnyCPU leaves the choice to the scheduler.
const AnyCPU = -1

// Run is the mean time of one run of prog. Every run must end in XDP_TX.
func (h *Harness) Run(prog *ebpf.Program, frame []byte, repeat, cpu int) (time.Duration, error) {
	r, err := h.Repeat(prog, frame, repeat, cpu)
	if err != nil {
		return 0, err
	}
	const tx = 3
	if r.Verdict != tx {
		return 0, fmt.Errorf("program under test ended with %d, not XDP_TX", r.Verdict)
	}
	return r.PerRun, nil
}

// Repeat runs prog whatever it says; the verdict is the last run's.
func (h *Harness) Repeat(prog *ebpf.Program, frame []byte, repeat, cpu int) (bpf.Result, error) {
	if err := h.loaded.Maps["under_test"].Put(uint32(0), uint32(prog.FD())); err != nil {
		return bpf.Result{}, fmt.Errorf("put program under test: %w", err)
	}
	return bpf.TestRun(h.loaded.Programs["again"], bpf.Run{Packet: frame, Repeat: repeat, CPU: max(cpu, 0), Pin: cpu != AnyCPU})
}

// Program is the harness's own. While it is attached somewhere, several callers may run it at the same time: else the
// kernel lets the second one begin its loop only when the first has ended.
func (h *Harness) Program() *ebpf.Program { return h.loaded.Programs["again"] }

// Close ends it.
func (h *Harness) Close() { h.loaded.Close() }

// Peers are the programs to compare with.
type Peers struct {
	*bpf.Loaded
}

// Names of programs.
const (
	Floor     = "nothing"   // moves the packet's head and returns
	Stateless = "stateless" // VIP hash map, ring, encapsulation
	LRU       = "lru"       // the same behind an LRU_HASH of flows
	Swapped   = "swapped"   // reads a ring inside an ARRAY_OF_MAPS
)

// Load puts the peers into the kernel with VIPs on TCP port 80 and backends.
func Load(vips, backends []netip.Addr) (*Peers, error) {
	spec, err := loadPeers()
	if err != nil {
		return nil, err
	}
	l, err := bpf.Load(spec, bpf.LoadOptions{})
	if err != nil {
		return nil, err
	}
	const ring = 65537
	slots, values := make([]uint32, ring), make([]uint32, ring)
	for i := range slots {
		slots[i], values[i] = uint32(i), uint32(i*7919%ring%len(backends))
	}
	if _, err := l.Maps["peer_ring"].BatchUpdate(slots, values, nil); err != nil {
		return nil, fmt.Errorf("fill the peers' ring: %w", err)
	}
	for i, b := range backends {
		a := b.As4()
		if err := l.Maps["peer_backends"].Put(uint32(i), a); err != nil {
			return nil, fmt.Errorf("fill the peers' backends: %w", err)
		}
	}
	for _, v := range vips {
		a := v.As4()
		key := uint64(binary.LittleEndian.Uint32(a[:]))<<32 | 80<<8<<16 | 6
		if err := l.Maps["peer_vips"].Put(key, [2]uint32{0, ring}); err != nil {
			return nil, fmt.Errorf("fill the peers' VIPs: %w", err)
		}
	}
	return &Peers{l}, nil
}
