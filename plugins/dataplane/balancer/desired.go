package balancer

import (
	"net/netip"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/announce/bgp"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/health"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
)

// Desired is a valid Config, with defaults.
type Desired struct {
	Interface     string
	Flows         int
	Encapsulation table.Encapsulation
	VNI           uint32
	Source4       netip.Addr
	Source6       netip.Addr
	MTU           int
	Peers         []Peer
	Announce      Announce
	VIPs          []VIP
}

// missingSource names the setting without which packets to a backend's address have no outer source; "" when it is there.
func (d *Desired) missingSource(backend netip.Addr) string {
	switch {
	case backend.Is4() && !d.Source4.IsValid():
		return "source.ipv4"
	case backend.Is6() && !d.Source6.IsValid():
		return "source.ipv6"
	}
	return ""
}

// Peer is another balancer.
type Peer struct {
	Name, Address string
}

// Mode of announcing.
type Mode int

// Values of Mode.
const (
	Silent Mode = iota
	ARP
	BGP
)

// Announce says how VIPs are announced.
type Announce struct {
	Mode     Mode
	Priority int
	Beat     time.Duration
	BGP      bgp.Speaker
}

// VIP is one virtual address.
type VIP struct {
	Name      string
	Key       table.VIP
	Component string
	ReportTTL time.Duration
	SlowStart time.Duration
	Check     *health.Check
	Backends  []Backend
}

// Backend of a VIP. Host or Address is set, or both.
type Backend struct {
	Host         string
	Address      netip.Addr
	Weight       uint32
	Limit        uint32
	QUICServerID uint16
}

// name is what operators call the backend: as the configuration does.
func (b Backend) name() string {
	if b.Host != "" {
		return b.Host
	}
	return b.Address.String()
}
