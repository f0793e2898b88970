package table

import (
	"fmt"
	"log/slog"
	"math/bits"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb"
)

// Layout is the version of the pinned maps. Raise it when a record in bpf/lb/maps.h changes, or the hash that finds one.
const Layout = 2

// Options of Open. Of what is zero the default is taken.
type Options struct {
	// Pins is a directory on a bpffs. Empty: nothing is pinned and the table ends with the process.
	Pins string
	// Flows is how many flows have a place, 65,536. Rounded up to a power of two.
	Flows int
	// VIPs and Backends are how many there may be, 4,096 each; at most 65,535.
	VIPs, Backends int
	// RingSlots is the sum of all rings' lengths, 1,048,576.
	RingSlots int
	// Source4 and Source6 are the outer source addresses. One that is missing is zero on the wire.
	Source4, Source6 netip.Addr
	// MTU is that of the way to the backends, 1,500.
	MTU int
	// GUEPort and VXLANPort are the backends' UDP ports, 6080 and 4789.
	GUEPort, VXLANPort uint16
	// Answers is how many resets and "too big" a CPU may send in a second, 1,000.
	Answers int
	// Key is the flow hash's, of another balancer with which raw entries are to be exchanged. A table that has
	// flows keeps its own: see Table.Key. Nil: a new table draws one.
	Key *Key
	// Log takes what nobody waits for; nil is slog's default.
	Log *slog.Logger

	// Tests put an object with deliberate breaks in, and choose one.
	source func() (*ebpf.CollectionSpec, error)
	mutant uint32
}

func orDefault[T comparable](v *T, d T) {
	if *v == *new(T) {
		*v = d
	}
}

func (o *Options) complete() error {
	orDefault(&o.Flows, 1<<16)
	orDefault(&o.VIPs, 4096)
	orDefault(&o.Backends, 4096)
	orDefault(&o.RingSlots, 1<<20)
	orDefault(&o.MTU, 1500)
	orDefault(&o.GUEPort, 6080)
	orDefault(&o.VXLANPort, 4789)
	orDefault(&o.Answers, 1000)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	for _, limit := range []struct {
		name           string
		value, min, to int
	}{
		{"flows", o.Flows, 64, 1 << 27},
		{"VIPs", o.VIPs, 1, 1<<16 - 1},
		{"backends", o.Backends, 1, 1<<16 - 1},
		{"ring slots", o.RingSlots, 1, 1 << 27},
		{"MTU", o.MTU, 1280, 1<<16 - 1},
		{"answers", o.Answers, 0, 1 << 30},
	} {
		if limit.value < limit.min || limit.value > limit.to {
			return fmt.Errorf("%s: %d is not within %d and %d", limit.name, limit.value, limit.min, limit.to)
		}
	}
	if o.Source4.IsValid() && !o.Source4.Is4() {
		return fmt.Errorf("outer IPv4 source: %v is none", o.Source4)
	}
	if o.Source6.IsValid() && !o.Source6.Is6() {
		return fmt.Errorf("outer IPv6 source: %v is none", o.Source6)
	}
	return nil
}

// powerOfTwo rounds up.
func powerOfTwo(n int) int { return 1 << bits.Len(uint(max(n, 1)-1)) }

// spec is the object to load: the product's, or for a test the one that has the deliberate breaks.
func (o *Options) spec() (*ebpf.CollectionSpec, error) {
	if o.source != nil {
		return o.source()
	}
	return lb.Spec()
}

// sizes are the entries of each map. Index 0 of VIPs and backends means none, so there is one more.
func (o *Options) sizes(cpus int) map[string]uint32 {
	vips, backends := uint32(o.VIPs)+1, uint32(o.Backends)+1
	return map[string]uint32{
		"flows":            uint32(powerOfTwo(o.Flows) / slotsPerLine),
		"overflow":         uint32(max(powerOfTwo(o.Flows)/8, 64)),
		"vips":             vips,
		"vip_hosts":        uint32(2 * powerOfTwo(o.VIPs)),
		"vip_ports":        uint32(2 * (2*o.VIPs + 1)),
		"vip_counters":     vips * uint32(cpus),
		"backends":         backends,
		"credits":          backends,
		"backend_counters": backends * uint32(cpus),
		"reasons":          uint32(cpus),
		"cpu_local":        uint32(cpus),
		"rings":            uint32(2 * chunks(o.RingSlots)),
	}
}
