package lease

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease/engine"
)

// Config is the section leases of a box: it is one of the leasing agents of these services.
type Config struct {
	Services []ServiceConfig `json:"services" config:"required" jsonschema:"description=the same on every box that leases them"`
}

// ServiceConfig is one service.
type ServiceConfig struct {
	Name      string           `json:"name" config:"required"`
	Addresses []string         `json:"addresses" config:"required" jsonschema:"description=where clients send: an IPv4 address, an IPv6 address or both"`
	VNI       uint32           `json:"vni" config:"required,min=1,max=16777215" jsonschema:"description=of the overlay; no other service, group or attachment may have it"`
	TTL       plugin.Duration  `json:"ttl,omitempty" config:"min=300ms,max=10m" jsonschema:"description=of a lease (default 10s); hosts renew at a third of it"`
	Producers []ProducerConfig `json:"producers,omitempty" jsonschema:"description=the only ones allowed; any enrolled host may offer one when there is none here"`
}

// ProducerConfig allows and limits one producer.
type ProducerConfig struct {
	Name  string   `json:"name" config:"required"`
	Hosts []string `json:"hosts,omitempty" jsonschema:"description=hosts it may be on; any enrolled one when empty"`
	Quota uint32   `json:"quota,omitempty" jsonschema:"description=the most consumers at a time; what its host says when 0"`
	Drain bool     `json:"drain,omitempty" jsonschema:"description=no new leases and no new flows; those there are end by themselves"`
}

// Desired is a valid Config.
type Desired struct {
	Services []engine.Service
}

// DefaultTTL outlives the restart of a box's plugin several times over.
const DefaultTTL = 10 * time.Second

// Parse checks the section, all of it in one pass. at is its path.
func Parse(at string, c Config, v *plugin.Validation) Desired {
	var d Desired
	if len(c.Services) > engine.MaxServices {
		v.Errorf(at+".services", "%d services: at most %d", len(c.Services), engine.MaxServices)
		return d
	}
	names, addresses, vnis := map[string]string{}, map[netip.Addr]string{}, map[uint32]string{}
	for i, sc := range c.Services {
		at := fmt.Sprintf("%s.services[%d]", at, i)
		s := engine.Service{Name: sc.Name, VNI: sc.VNI, TTL: time.Duration(sc.TTL)}
		if s.TTL == 0 {
			s.TTL = DefaultTTL
		}
		if why := badName(sc.Name); sc.Name != "" && why != "" {
			v.Errorf(at+".name", "name %q %s", sc.Name, why)
		}
		if first, twice := names[sc.Name]; twice {
			v.Errorf(at+".name", "service %q is already %s", sc.Name, first)
		}
		names[sc.Name] = at
		if first, twice := vnis[sc.VNI]; twice && sc.VNI != 0 {
			v.Errorf(at+".vni", "VNI %d is already that of %s", sc.VNI, first)
		}
		vnis[sc.VNI] = at
		s.Addresses = parseAddresses(at, sc.Addresses, addresses, v)
		s.Producers = parseProducers(at, sc.Producers, v)
		d.Services = append(d.Services, s)
	}
	return d
}

func parseAddresses(at string, list []string, seen map[netip.Addr]string, v *plugin.Validation) (out []netip.Addr) {
	for i, text := range list {
		at := fmt.Sprintf("%s.addresses[%d]", at, i)
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil:
			v.Errorf(at, "%q is not an address", text)
			continue
		case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.Is4In6() || a.Zone() != "":
			v.Errorf(at, "address %s cannot be a service's", a)
		case slices.ContainsFunc(out, func(b netip.Addr) bool { return b.Is4() == a.Is4() }):
			v.Errorf(at, "address %s is the second of its family: a service has one of each", a)
		}
		if first, twice := seen[a]; twice {
			v.Errorf(at, "address %s is already %s", a, first)
		}
		seen[a] = at
		out = append(out, a)
	}
	return out
}

func parseProducers(at string, list []ProducerConfig, v *plugin.Validation) map[string]engine.Allowed {
	if len(list) > engine.MaxProducers {
		v.Errorf(at+".producers", "%d producers: at most %d", len(list), engine.MaxProducers)
		return nil
	}
	out := make(map[string]engine.Allowed, len(list))
	for i, p := range list {
		at := fmt.Sprintf("%s.producers[%d]", at, i)
		if why := badName(p.Name); p.Name != "" && why != "" {
			v.Errorf(at+".name", "name %q %s", p.Name, why)
		}
		if _, twice := out[p.Name]; twice {
			v.Errorf(at+".name", "producer %q is there twice", p.Name)
		}
		out[p.Name] = engine.Allowed{Hosts: p.Hosts, Quota: p.Quota, Drain: p.Drain}
	}
	return out
}
