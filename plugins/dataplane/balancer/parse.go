package balancer

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/announce/bgp"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/health"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/report"
)

// Defaults.
const (
	defaultFlows     = 65536
	defaultMTU       = 1500
	defaultBeat      = 100 * time.Millisecond
	defaultReportTTL = 2 * time.Second
	defaultHold      = 9 * time.Second
	defaultRestart   = 2 * time.Minute
	maxBackends      = 4096 // of all VIPs, each counted once
)

// Parse checks the section, which stands at at, and lists everything that is wrong with it.
func Parse(at string, c Config, v *plugin.Validation) Desired {
	d := Desired{
		Interface: c.Interface, Flows: c.Flows, VNI: c.VNI, MTU: c.MTU,
		Source4: parseSource(v, at+".source.ipv4", c.Source.IPv4, netip.Addr.Is4),
		Source6: parseSource(v, at+".source.ipv6", c.Source.IPv6, isPlain6),
	}
	if d.Flows == 0 {
		d.Flows = defaultFlows
	}
	if d.MTU == 0 {
		d.MTU = defaultMTU
	}
	d.Encapsulation = map[string]table.Encapsulation{"gue": table.GUE, "vxlan": table.VXLAN}[c.Encapsulation]
	if c.VNI != 0 && d.Encapsulation != table.VXLAN {
		v.Errorf(at+".vni", "a VNI needs encapsulation: vxlan")
	}
	parsePeers(v, at, c.Peers, &d)
	parseAnnounce(v, at+".announce", c.Announce, &d)
	names, keys := map[string]string{}, map[table.VIP]string{}
	backends := map[backendKey]string{}
	hosts := map[hostComponent]backendKey{}
	servers := serverIDs{owners: map[uint16]serverID{}, of: map[backendKey]serverID{}}
	for i, vc := range c.VIPs {
		path := fmt.Sprintf("%s.vips[%d]", at, i)
		if first, taken := names[vc.Name]; taken && vc.Name != "" {
			v.Errorf(path+".name", "name %q is already used by %s", vc.Name, first)
		}
		names[vc.Name] = path
		vip := parseVIP(v, path, vc, c.Exhausted)
		identity := table.VIP{Address: vip.Key.Address, Protocol: vip.Key.Protocol, First: vip.Key.First, Last: vip.Key.Last}
		if first, taken := keys[identity]; taken {
			v.Errorf(path, "address, protocol and ports are those of %s", first)
		}
		keys[identity] = path
		for j, b := range vip.Backends {
			p := fmt.Sprintf("%s.backends[%d]", path, j)
			if b.Address.IsValid() {
				checkSource(v, p, b.Address, d)
			}
			key, reporter := backendKey{b.Host, b.Address, vip.Component}, hostComponent{b.Host, vip.Component}
			if first, taken := hosts[reporter]; taken && first != key {
				v.Errorf(p, "host %q has another address in %s: its component %s has one capacity, so give it one address", b.Host, backends[first], vip.Component)
				continue
			}
			if b.Host != "" {
				hosts[reporter] = key
			}
			backends[key] = p
			servers.check(v, p, key, b.QUICServerID)
		}
		d.VIPs = append(d.VIPs, vip)
	}
	if len(backends) > maxBackends {
		v.Errorf(at+".vips", "%d different backends: at most %d", len(backends), maxBackends)
	}
	return d
}

// serverIDs are the QUIC server ids of a section: whose each is, and which one each backend has.
type serverIDs struct {
	owners map[uint16]serverID
	of     map[backendKey]serverID
}

type serverID struct {
	id  uint16
	key backendKey
	at  string
}

// check notes the id of a backend, 0 for none, that another host has, or that is its second one.
func (s serverIDs) check(v *plugin.Validation, at string, key backendKey, id uint16) {
	if id == 0 {
		return
	}
	if first, has := s.of[key]; has && first.id != id {
		v.Errorf(at+".quic_server_id", "the same backend has %d in %s", first.id, first.at)
		return
	}
	owner, taken := s.owners[id]
	if taken && (owner.key.host != key.host || owner.key.address != key.address) {
		v.Errorf(at+".quic_server_id", "%d is that of %s already: it names one host", id, owner.at)
		return
	}
	if !taken {
		s.owners[id] = serverID{id, key, at}
	}
	s.of[key] = serverID{id, key, at}
}

func isPlain6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }

func parseSource(v *plugin.Validation, at, s string, family func(netip.Addr) bool) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !family(a) || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		v.Errorf(at, "%q is not an address of this family", s)
		return netip.Addr{}
	}
	return a
}

func checkSource(v *plugin.Validation, at string, backend netip.Addr, d Desired) {
	if source := d.missingSource(backend); source != "" {
		family := map[bool]string{true: "IPv4", false: "IPv6"}[backend.Is4()]
		v.Errorf(at, "a backend with an %s address needs %s, the outer source of its packets", family, source)
	}
}

func parsePeers(v *plugin.Validation, at string, peers []PeerConfig, d *Desired) {
	seen := map[string]string{}
	for i, pc := range peers {
		path := fmt.Sprintf("%s.peers[%d]", at, i)
		if first, taken := seen[pc.Name]; taken {
			v.Errorf(path+".name", "name %q is already used by %s", pc.Name, first)
		}
		seen[pc.Name] = path
		if _, _, err := net.SplitHostPort(pc.Address); err != nil && pc.Address != "" {
			v.Errorf(path+".address", "%q is not HOST:PORT, as 192.0.2.2:7400", pc.Address)
		}
		d.Peers = append(d.Peers, Peer(pc))
	}
}

func parseAnnounce(v *plugin.Validation, at string, c *AnnounceConfig, d *Desired) {
	if c == nil {
		d.Announce.Beat = defaultBeat
		return
	}
	a := Announce{Priority: c.Priority, Beat: time.Duration(c.Beat)}
	if a.Beat == 0 {
		a.Beat = defaultBeat
	}
	switch {
	case c.Mode == "arp":
		a.Mode = ARP
		if c.BGP != nil {
			v.Errorf(at+".bgp", "bgp needs mode: bgp")
		}
	case c.Mode == "bgp" && c.BGP == nil:
		v.Errorf(at, "mode: bgp needs bgp")
	case c.Mode == "bgp":
		a.Mode, a.BGP = BGP, parseBGP(v, at+".bgp", *c.BGP)
	}
	d.Announce = a
}

func parseBGP(v *plugin.Validation, at string, c BGPConfig) bgp.Speaker {
	s := bgp.Speaker{AS: c.AS, HoldTime: time.Duration(c.HoldTime), RestartTime: time.Duration(c.Restart)}
	if s.HoldTime == 0 {
		s.HoldTime = defaultHold
	}
	if s.RestartTime == 0 {
		s.RestartTime = defaultRestart
	}
	s.RouterID = parseSource(v, at+".router_id", c.RouterID, netip.Addr.Is4)
	s.NextHop4 = parseSource(v, at+".next_hop4", c.NextHop4, netip.Addr.Is4)
	s.NextHop6 = parseSource(v, at+".next_hop6", c.NextHop6, isPlain6)
	for i, nc := range c.Neighbours {
		path := fmt.Sprintf("%s.neighbours[%d].address", at, i)
		where, err := netip.ParseAddrPort(nc.Address)
		if err != nil {
			var a netip.Addr
			a, err = netip.ParseAddr(nc.Address)
			where = netip.AddrPortFrom(a, bgp.Port)
		}
		if err != nil && nc.Address != "" {
			v.Errorf(path, "%q is not an address, with or without :PORT", nc.Address)
			continue
		}
		s.Neighbours = append(s.Neighbours, bgp.Neighbour{Address: where, AS: nc.AS})
	}
	return s
}

func parseVIP(v *plugin.Validation, at string, c VIPConfig, exhausted string) VIP {
	vip := VIP{
		Name: c.Name, Component: c.Component, ReportTTL: time.Duration(c.ReportTTL), SlowStart: time.Duration(c.SlowStart),
	}
	if vip.Component == "" {
		vip.Component = c.Name
	}
	if len(vip.Component) > report.MaxName {
		v.Errorf(at+".component", "%q is longer than %d bytes", vip.Component, report.MaxName)
	}
	if vip.ReportTTL == 0 {
		vip.ReportTTL = defaultReportTTL
	}
	k := table.VIP{Protocol: map[string]table.Protocol{"udp": table.UDP, "quic": table.QUIC, "any": table.Any}[c.Protocol]}
	if c.Protocol == "" || c.Protocol == "tcp" {
		k.Protocol = table.TCP
	}
	if c.Exhausted != "" {
		exhausted = c.Exhausted
	}
	k.Exhausted = map[string]table.Exhausted{"drop": table.Drop, "last-weights": table.LastWeights, "reset": table.Reset, "": table.Reset}[exhausted]
	var err error
	if k.Address, err = netip.ParseAddr(c.Address); c.Address != "" && (err != nil || k.Address.Is4In6() || k.Address.Zone() != "" || k.Address.IsUnspecified() || k.Address.IsMulticast()) {
		v.Errorf(at+".address", "%q is not an IPv4 or IPv6 address of a host", c.Address)
	}
	var ok bool
	if k.First, k.Last, ok = parsePorts(c.Ports); !ok {
		v.Errorf(at+".ports", "%q is not a port (80), a range (8000-8999) or all", c.Ports)
	}
	for i, p := range c.Preserve {
		switch p {
		case "source":
			k.PreserveSource = true
		case "port":
			k.PreservePort = true
		default:
			v.Errorf(fmt.Sprintf("%s.preserve[%d]", at, i), "%q is not source or port", p)
		}
	}
	vip.Key = k
	vip.Check = parseCheck(v, at+".health", c.Health, k.First)
	parseBackends(v, at, c, &vip)
	return vip
}

// Defaults of health checks.
const (
	defaultInterval = 2 * time.Second
	defaultTimeout  = time.Second
	defaultRise     = 2
	defaultFall     = 3
)

func parseCheck(v *plugin.Validation, at string, c *HealthConfig, first uint16) *health.Check {
	if c == nil {
		return nil
	}
	h := health.Check{
		Interval: cmp.Or(time.Duration(c.Interval), defaultInterval), Timeout: cmp.Or(time.Duration(c.Timeout), defaultTimeout),
		Rise: cmp.Or(c.Rise, defaultRise), Fall: cmp.Or(c.Fall, defaultFall),
	}
	kinds := 0
	if t := c.TCP; t != nil {
		h.Kind, h.Port, kinds = health.TCP, t.Port, kinds+1
	}
	if t := c.HTTP; t != nil {
		h.Kind, h.Port, h.Path, h.Host, h.Status, kinds = health.HTTP, t.Port, t.Path, t.Host, t.Status, kinds+1
		if t.Path != "" && !strings.HasPrefix(t.Path, "/") {
			v.Errorf(at+".http.path", "path %q does not begin with /", t.Path)
		}
	}
	if t := c.GRPC; t != nil {
		h.Kind, h.Port, h.Service, kinds = health.GRPC, t.Port, t.Service, kinds+1
	}
	if kinds != 1 {
		v.Errorf(at, "give one of tcp, http and grpc")
	}
	if h.Port = cmp.Or(h.Port, first); h.Port == 0 {
		v.Errorf(at, "the VIP has no first port: give the check one")
	}
	return &h
}

// parsePorts reads 80, 8000-8999 and all.
func parsePorts(s string) (first, last uint16, ok bool) {
	if s == "" || s == "all" {
		return 0, 65535, true
	}
	from, to, ranged := strings.Cut(s, "-")
	if !ranged {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := strconv.ParseUint(to, 10, 16)
	return uint16(a), uint16(b), errA == nil && errB == nil && a > 0 && a <= b
}

func parseBackends(v *plugin.Validation, at string, c VIPConfig, vip *VIP) {
	type same struct {
		host    string
		address netip.Addr
	}
	seen := map[same]string{}
	for i, bc := range c.Backends {
		path := fmt.Sprintf("%s.backends[%d]", at, i)
		b := Backend{Host: bc.Host, Weight: 1, Limit: bc.Limit, QUICServerID: bc.QUICServerID}
		if bc.Weight != nil {
			b.Weight = *bc.Weight
		}
		if bc.Host == "" && bc.Address == "" {
			v.Errorf(path, "a backend needs host (an enrolled one) or address")
			continue
		}
		if bc.Address != "" {
			a, err := netip.ParseAddr(bc.Address)
			if err != nil || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
				v.Errorf(path+".address", "%q is not an IPv4 or IPv6 address of a host", bc.Address)
				continue
			}
			b.Address = a
		}
		key := same{b.Host, b.Address}
		if first, taken := seen[key]; taken {
			v.Errorf(path, "is the same backend as %s", first)
		}
		seen[key] = path
		if bc.QUICServerID != 0 && vip.Key.Protocol != table.QUIC {
			v.Errorf(path+".quic_server_id", "needs protocol: quic")
		}
		vip.Backends = append(vip.Backends, b)
	}
}
