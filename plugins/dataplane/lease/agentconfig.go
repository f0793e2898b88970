package lease

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease/engine"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// Bounds of one host.
const (
	maxProduced   = 256
	defaultLeases = 2
	// defaultDrainIdle is what stateful firewalls, too, give a silent connection at the least.
	defaultDrainIdle = 5 * time.Minute
)

// AgentConfig is the section leases of a host's agent: what it leases, and what it offers.
type AgentConfig struct {
	Consume []ConsumeConfig `json:"consume,omitempty" jsonschema:"description=services whose traffic this host sends to leased producers"`
	Produce []ProduceConfig `json:"produce,omitempty" jsonschema:"description=producers on this host"`
	MTU     uint32          `json:"mtu,omitempty" config:"min=0,max=9216" jsonschema:"description=of packets to services; the links' less 70 for the outer headers (default 1430)"`
	// DrainIdle is long by default: connections may be silent for long and live.
	DrainIdle plugin.Duration `json:"drain_idle,omitempty" config:"min=1s,max=24h" jsonschema:"description=for how long nothing must have gone over a draining lease before it is given back (default 5m)"`

	Flows int `json:"flows,omitempty" config:"min=0,max=1048576" jsonschema:"description=flows that are remembered (default 16384)"`
}

// ConsumeConfig is a service to lease.
type ConsumeConfig struct {
	Service string `json:"service" config:"required"`
	Leases  int    `json:"leases,omitempty" config:"min=0,max=8" jsonschema:"description=producers to keep leased (default 2)"`
	Source  string `json:"source,omitempty" jsonschema:"description=address that local clients use towards it; the kernel's choice when empty"`
}

// ProduceConfig is one producer of a service.
type ProduceConfig struct {
	Service  string `json:"service" config:"required"`
	Name     string `json:"name" config:"required" jsonschema:"description=unique among the service's producers; it moves with the instance"`
	Quota    uint32 `json:"quota" config:"required" jsonschema:"description=consumers that may have a lease of it at a time"`
	Underlay string `json:"underlay,omitempty" jsonschema:"description=this host's address that takes VXLAN; the one towards the first box when empty"`
	VNI      uint32 `json:"vni,omitempty" config:"min=0,max=16777215" jsonschema:"description=the service's when 0; two producers on one host need different ones"`
	Link     string `json:"link,omitempty" jsonschema:"description=link of the instance (tap or veth); the host's own stack serves when empty"`
	MAC      string `json:"mac,omitempty" jsonschema:"description=the instance's address on that link"`
	Check    string `json:"check,omitempty" jsonschema:"description=ADDRESS:PORT that takes TCP connections while the producer lives; nothing is checked when empty"`
	Drain    bool   `json:"drain,omitempty" jsonschema:"description=no new leases and no new flows; those there are end by themselves"`
}

// Check finds everything that is wrong with the section.
func (c AgentConfig) Check(errorf func(path, format string, args ...any)) {
	if len(c.Consume) > maxServices {
		errorf("consume", "%d services: a host leases at most %d", len(c.Consume), maxServices)
	}
	seen := map[string]string{}
	for i, s := range c.Consume {
		at := fmt.Sprintf("consume[%d]", i)
		if why := badName(s.Service); s.Service != "" && why != "" {
			errorf(at+".service", "service %q %s", s.Service, why)
		}
		once(seen, "service "+s.Service, at, errorf)
		if _, err := netip.ParseAddr(s.Source); s.Source != "" && err != nil {
			errorf(at+".source", "%q is not an address", s.Source)
		}
	}
	if len(c.Produce) > maxProduced {
		errorf("produce", "%d producers: a host has at most %d", len(c.Produce), maxProduced)
	}
	for i, p := range c.Produce {
		p.check(fmt.Sprintf("produce[%d]", i), seen, errorf)
	}
}

func (p ProduceConfig) check(at string, seen map[string]string, errorf func(path, format string, args ...any)) {
	for _, name := range []struct{ key, value string }{{"service", p.Service}, {"name", p.Name}} {
		if why := badName(name.value); name.value != "" && why != "" {
			errorf(at+"."+name.key, "%s %q %s", name.key, name.value, why)
		}
	}
	once(seen, "producer "+p.Name+" of "+p.Service, at, errorf)
	if p.VNI == 0 {
		once(seen, "VNI of service "+p.Service, at, errorf)
	} else {
		once(seen, fmt.Sprintf("VNI %d", p.VNI), at, errorf)
	}
	if a, err := netip.ParseAddr(p.Underlay); p.Underlay != "" && (err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "") {
		errorf(at+".underlay", "%q is not an address of a host", p.Underlay)
	}
	if _, err := parseMAC(p.MAC); err != nil {
		errorf(at+".mac", "%v", err)
	}
	if (p.Link == "") != (p.MAC == "") {
		errorf(at, "link and mac go together: packets to an instance carry its address on the link")
	}
	if _, err := netip.ParseAddrPort(p.Check); p.Check != "" && err != nil {
		errorf(at+".check", "%q is not ADDRESS:PORT", p.Check)
	}
}

func once(seen map[string]string, what, at string, errorf func(path, format string, args ...any)) {
	if first, twice := seen[what]; twice {
		errorf(at, "%s is already %s", what, first)
		return
	}
	seen[what] = at
}

func badName(name string) string {
	if len(name) > engine.MaxName {
		return fmt.Sprintf("is longer than %d bytes", engine.MaxName)
	}
	if !engine.ValidName(name) {
		return "holds something else than a-z, 0-9 and -"
	}
	return ""
}

func parseMAC(s string) (mac [6]byte, err error) {
	if s == "" {
		return mac, nil
	}
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 || m[0]&1 != 0 {
		return mac, fmt.Errorf("%q is not the MAC address of an instance, as 02:00:00:00:00:01", s)
	}
	return [6]byte(m), nil
}

// tuple is where consumers send for a producer.
func (p ProduceConfig) tuple(underlay netip.Addr) (engine.Target, error) {
	mac, err := parseMAC(p.MAC)
	if err != nil {
		return engine.Target{}, err
	}
	if p.VNI > overlay.MaxVNI {
		return engine.Target{}, fmt.Errorf("VNI %d is beyond %d", p.VNI, overlay.MaxVNI)
	}
	return engine.Target{Host: underlay, VNI: p.VNI, MAC: mac}, nil
}
