package table

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf/btf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb"
)

// Reason is why a packet was not forwarded, or another thing that is counted; its name is in the C enum reason.
type Reason uint16

// VIPCounter counts a VIP's traffic since the VIP was made. Bytes are those of the clients' IP packets.
type VIPCounter struct {
	ID                                VIPID
	Packets, Bytes, NewFlows, Refused uint64
}

// BackendCounter counts what a backend was sent.
type BackendCounter struct {
	ID             BackendID
	Packets, Bytes uint64
}

// Counters are sums over all CPUs. They grow while they are read, and survive the process.
type Counters struct {
	VIPs     []VIPCounter
	Backends []BackendCounter
	Reasons  map[Reason]uint64 // those that are not zero
}

// Counters reads them all, without stopping anybody.
func (t *Table) Counters() Counters {
	t.mu.Lock() // for the ids alone
	c := Counters{Reasons: make(map[Reason]uint64)}
	for _, id := range t.vips {
		c.VIPs = append(c.VIPs, VIPCounter{ID: id})
	}
	for _, id := range t.backends {
		c.Backends = append(c.Backends, BackendCounter{ID: id})
	}
	t.mu.Unlock()
	vips, backends := len(t.shared.vips.Elems), len(t.shared.backends.Elems)
	for cpu := range t.cpus {
		for i := range c.VIPs {
			v, from := &c.VIPs[i], &t.shared.vipCount.Elems[cpu*vips+int(c.VIPs[i].ID)]
			v.Packets += atomic.LoadUint64(&from.Packets)
			v.Bytes += atomic.LoadUint64(&from.Bytes)
			v.NewFlows += atomic.LoadUint64(&from.Flows)
			v.Refused += atomic.LoadUint64(&from.Refused)
		}
		for i := range c.Backends {
			b, from := &c.Backends[i], &t.shared.beCount.Elems[cpu*backends+int(c.Backends[i].ID)]
			b.Packets += atomic.LoadUint64(&from.Packets)
			b.Bytes += atomic.LoadUint64(&from.Bytes)
		}
		for r := range lb.ReasonCount {
			if n := atomic.LoadUint64(&t.shared.reasons.Elems[cpu].Count[r]); n != 0 {
				c.Reasons[Reason(r)] += n
			}
		}
	}
	return c
}

// reasonNames come from the object's types, so that C holds the only list.
var reasonNames = sync.OnceValue(func() []string {
	names := make([]string, lb.ReasonCount)
	spec, err := lb.Spec()
	if err != nil {
		return names
	}
	var enum *btf.Enum
	if spec.Types.TypeByName("reason", &enum) != nil {
		return names
	}
	for _, v := range enum.Values {
		if v.Value < uint64(len(names)) {
			name := strings.ToLower(strings.TrimPrefix(v.Name, "REASON_"))
			names[v.Value] = strings.ReplaceAll(name, "_", " ")
		}
	}
	return names
})

func (r Reason) String() string {
	if names := reasonNames(); int(r) < len(names) {
		return names[r]
	}
	return "unknown"
}

// ReasonByName finds a reason by what String says.
func ReasonByName(name string) (Reason, bool) {
	for r, n := range reasonNames() {
		if n == name && r != 0 {
			return Reason(r), true
		}
	}
	return 0, false
}

// Dropped reports whether packets counted under r were lost: others were handed to the kernel, answered, or are
// events that are counted beside packets.
func (r Reason) Dropped() bool {
	return r >= Reason(lb.FirstDrop) && r <= Reason(lb.LastDrop) || r >= Reason(lb.FirstTunnel) && r <= Reason(lb.LastTunnel)
}
