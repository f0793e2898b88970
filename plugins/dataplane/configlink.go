package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/link"
)

// LinkConfig is one NIC and what it should look like inside the namespace.
type LinkConfig struct {
	NIC       string        `json:"nic" config:"required" jsonschema:"description=which NIC: mac:52:54:00:00:00:01 or pci:0000:00:04.0"`
	Name      string        `json:"name,omitempty" jsonschema:"description=the link's name; the kernel's own when empty"`
	MTU       uint32        `json:"mtu,omitempty" jsonschema:"description=bytes; the driver's own when 0"`
	Addresses []string      `json:"addresses,omitempty" jsonschema:"description=with prefix length: 192.0.2.1/24 or 2001:db8::1/64"`
	Routes    []RouteConfig `json:"routes,omitempty"`
}

// RouteConfig is one static route over the link.
type RouteConfig struct {
	To     string `json:"to" config:"required" jsonschema:"description=destination prefix or default"`
	Via    string `json:"via,omitempty" jsonschema:"description=gateway; directly attached when empty"`
	Metric uint32 `json:"metric,omitempty"`
}

// Limits of an MTU: RFC 791's least for IPv4, RFC 8200's for IPv6, and the largest the catalogue's NICs take.
const (
	minMTU   = 68
	minMTUv6 = 1280
	maxMTU   = 9216
	maxLinks = 64
	maxName  = 15 // IFNAMSIZ less the zero
)

// configured is one valid entry of links.
type configured struct {
	want     string // name of the Want, and where the entry stands
	selector string
	desired  link.Desired
}

// parseLinks turns the list into desired links and notes everything that is wrong with it.
func parseLinks(v *plugin.Validation, list []LinkConfig) []configured {
	if len(list) > maxLinks {
		v.Errorf("links", "%d links: at most %d", len(list), maxLinks)
		return nil
	}
	var all []configured
	nics, names, addresses, routes := map[string]string{}, map[string]string{}, map[netip.Addr]string{}, map[destination]string{}
	for i, lc := range list {
		at := fmt.Sprintf("links[%d]", i)
		if lc.NIC != "" {
			if first, taken := nics[lc.NIC]; taken {
				v.Errorf(at+".nic", "NIC %s is already taken by %s", lc.NIC, first)
			}
			nics[lc.NIC] = at
			v.Wants = append(v.Wants, &pluginpb.Want{Name: at, Kind: pluginpb.Kind_NIC, Selector: lc.NIC, Path: at + ".nic"})
		}
		if lc.Name != "" {
			if first, taken := names[lc.Name]; taken {
				v.Errorf(at+".name", "name %q is already used by %s", lc.Name, first)
			}
			names[lc.Name] = at
			if why := badName(lc.Name); why != "" {
				v.Errorf(at+".name", "name %q %s", lc.Name, why)
			}
		}
		d := link.Desired{Name: lc.Name, MTU: lc.MTU}
		parseAddresses(v, at, lc, &d, addresses)
		checkMTU(v, at, lc, d)
		parseRoutes(v, at, lc, &d, routes)
		all = append(all, configured{want: at, selector: lc.NIC, desired: d})
	}
	return all
}

func badName(name string) string {
	if len(name) > maxName {
		return fmt.Sprintf("is longer than %d bytes", maxName)
	}
	for _, r := range name {
		if r == '/' || r == ':' || r <= ' ' || r > '~' {
			return "holds a character the kernel refuses (space, slash, colon or not ASCII)"
		}
	}
	if name == "." || name == ".." || name == "lo" {
		return "is reserved"
	}
	return ""
}

func checkMTU(v *plugin.Validation, at string, lc LinkConfig, d link.Desired) {
	least := uint32(minMTU)
	for _, a := range d.Addresses {
		if a.Addr().Is6() {
			least = minMTUv6
		}
	}
	if lc.MTU != 0 && (lc.MTU < least || lc.MTU > maxMTU) {
		v.Errorf(at+".mtu", "mtu %d is outside %d to %d", lc.MTU, least, maxMTU)
	}
}

func parseAddresses(v *plugin.Validation, at string, lc LinkConfig, d *link.Desired, seen map[netip.Addr]string) {
	for j, s := range lc.Addresses {
		path := fmt.Sprintf("%s.addresses[%d]", at, j)
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			v.Errorf(path, "address %q is not ADDRESS/PREFIX-LENGTH, as 192.0.2.1/24", s)
			continue
		case !p.Addr().IsValid() || p.Addr().IsUnspecified() || p.Addr().IsMulticast() || p.Addr().Is4In6():
			v.Errorf(path, "address %s cannot be a link's own", p.Addr())
			continue
		}
		if first, taken := seen[p.Addr()]; taken {
			v.Errorf(path, "address %s is already used at %s", p.Addr(), first)
		}
		seen[p.Addr()] = path
		d.Addresses = append(d.Addresses, p)
	}
}

// destination is what the kernel has one route for: a second one would take the first one's place, on whichever link.
type destination struct {
	to     netip.Prefix
	metric uint32
}

func parseRoutes(v *plugin.Validation, at string, lc LinkConfig, d *link.Desired, seen map[destination]string) {
	for j, rc := range lc.Routes {
		path := fmt.Sprintf("%s.routes[%d]", at, j)
		r := link.Route{Metric: rc.Metric}
		if rc.Via != "" {
			via, err := netip.ParseAddr(rc.Via)
			if err != nil {
				v.Errorf(path+".via", "gateway %q is not an address", rc.Via)
				continue
			}
			r.Via = via
			if !onLink(via, d.Addresses) {
				v.Errorf(path+".via", "gateway %s is not in the network of any address of this link", via)
			}
		}
		switch to, err := netip.ParsePrefix(rc.To); {
		case rc.To == "default" && r.Via.IsValid():
			r.To = netip.PrefixFrom(unspecified(r.Via), 0)
		case rc.To == "default":
			v.Errorf(path+".to", "a default route needs via")
			continue
		case err != nil:
			if rc.To != "" { // empty is reported as missing
				v.Errorf(path+".to", "destination %q is not a prefix, as 198.51.100.0/24, or default", rc.To)
			}
			continue
		case to != to.Masked():
			v.Errorf(path+".to", "destination %s has host bits set; did you mean %s?", to, to.Masked())
			continue
		default:
			r.To = to
		}
		if r.Via.IsValid() && r.Via.Is4() != r.To.Addr().Is4() {
			v.Errorf(path, "destination %s and gateway %s are of different families", r.To, r.Via)
			continue
		}
		if r.To.Addr().Is6() && r.Metric == link.DefaultMetric6 {
			r.Metric = 0 // as the kernel's answer is read
		}
		at := destination{r.To, r.Metric}
		if first, taken := seen[at]; taken {
			v.Errorf(path, "destination %s is already %s's, with the same metric; the lower metric is preferred", r.To, first)
		}
		seen[at] = path
		d.Routes = append(d.Routes, r)
	}
}

func onLink(via netip.Addr, addresses []netip.Prefix) bool {
	if via.IsLinkLocalUnicast() && via.Is6() {
		return true
	}
	for _, a := range addresses {
		if a.Masked().Contains(via) {
			return true
		}
	}
	return false
}

func unspecified(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
