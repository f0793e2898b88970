package balancer

import "github.com/ratchetos/ratchet/core/plugin"

// Config is the section balancer of plugins.dataplane.
type Config struct {
	Interface     string          `json:"interface" config:"required" jsonschema:"description=link of this plugin on which clients' packets arrive"`
	Flows         int             `json:"flows,omitempty" config:"min=1024,max=8388608" jsonschema:"description=connections that the flow table holds (default 65536; 9 bytes each)"`
	Encapsulation string          `json:"encapsulation,omitempty" config:"enum=ipip|gue|vxlan" jsonschema:"description=how packets travel to the backends (default ipip)"`
	VNI           uint32          `json:"vni,omitempty" config:"max=16777215" jsonschema:"description=VXLAN network identifier, with encapsulation: vxlan"`
	Source        SourceConfig    `json:"source,omitempty"`
	MTU           int             `json:"mtu,omitempty" config:"min=1280,max=9216" jsonschema:"description=of the way to the backends in bytes (default 1500); what does not fit with its encapsulation is answered with packet too big"`
	Exhausted     string          `json:"exhausted,omitempty" config:"enum=reset|drop|last-weights" jsonschema:"description=what happens to a new connection when no backend has room: an answer that refuses it (default), nothing, or its place by weight all the same"`
	Peers         []PeerConfig    `json:"peers,omitempty" config:"max=8" jsonschema:"description=balancers that share flows and VIPs with this one; name them in both boxes"`
	Announce      *AnnounceConfig `json:"announce,omitempty" jsonschema:"description=tells the network where the VIPs are; without it something else routes them here"`
	VIPs          []VIPConfig     `json:"vips,omitempty" config:"max=4096"`
}

// SourceConfig is the outer source address of encapsulated packets.
type SourceConfig struct {
	IPv4 string `json:"ipv4,omitempty" jsonschema:"description=for backends with IPv4 addresses"`
	IPv6 string `json:"ipv6,omitempty" jsonschema:"description=for backends with IPv6 addresses"`
}

// PeerConfig is another balancer of the same VIPs.
type PeerConfig struct {
	Name    string `json:"name" config:"required" jsonschema:"description=the name it was enrolled by here (ratchetctl dataplane agent enroll NAME)"`
	Address string `json:"address" config:"required" jsonschema:"description=host:port of its agents.listen"`
}

// AnnounceConfig is how VIPs are announced.
type AnnounceConfig struct {
	Mode     string          `json:"mode" config:"required,enum=arp|bgp" jsonschema:"description=arp: one of the peers is active and answers ARP and neighbour solicitations; bgp: every balancer announces routes"`
	Priority int             `json:"priority,omitempty" config:"min=0,max=255" jsonschema:"description=of two that could be active the higher one is (arp); a balancer that is active stays so"`
	Beat     plugin.Duration `json:"beat,omitempty" config:"min=10ms,max=10s" jsonschema:"description=how often peers tell each other that they live (default 100ms); after three without a word the other takes over"`
	BGP      *BGPConfig      `json:"bgp,omitempty"`
}

// BGPConfig is this balancer as a BGP speaker.
type BGPConfig struct {
	AS         uint32            `json:"as" config:"required,min=1"`
	RouterID   string            `json:"router_id" config:"required" jsonschema:"description=an IPv4 address of this box"`
	NextHop4   string            `json:"next_hop4,omitempty" jsonschema:"description=next hop of IPv4 routes; the session's local address when empty"`
	NextHop6   string            `json:"next_hop6,omitempty" jsonschema:"description=next hop of IPv6 routes; the session's local address when empty"`
	HoldTime   plugin.Duration   `json:"hold_time,omitempty" config:"min=3s,max=10m" jsonschema:"description=default 9s"`
	Restart    plugin.Duration   `json:"restart_time,omitempty" config:"max=1h" jsonschema:"description=how long neighbours keep the routes while this plugin restarts (RFC 4724; default 120s)"`
	Neighbours []NeighbourConfig `json:"neighbours" config:"required,min=1,max=16"`
}

// NeighbourConfig is a router that this balancer opens a session with.
type NeighbourConfig struct {
	Address string `json:"address" config:"required" jsonschema:"description=of the router; with :PORT when that is not 179"`
	AS      uint32 `json:"as" config:"required,min=1"`
}

// VIPConfig is one virtual address and who serves it.
type VIPConfig struct {
	Name      string          `json:"name" config:"required"`
	Address   string          `json:"address" config:"required"`
	Protocol  string          `json:"protocol,omitempty" config:"enum=tcp|udp|quic|any" jsonschema:"description=default tcp; quic keeps connections by their id when the client's address changes"`
	Ports     string          `json:"ports,omitempty" jsonschema:"description=one (80), a range (8000-8999) or all (default)"`
	Component string          `json:"component,omitempty" jsonschema:"description=application component whose capacity the hosts report; the VIP's name when empty"`
	ReportTTL plugin.Duration `json:"report_ttl,omitempty" config:"min=100ms,max=10m" jsonschema:"description=a host whose last report is older counts as full (default 2s)"`
	SlowStart plugin.Duration `json:"slow_start,omitempty" config:"max=1h" jsonschema:"description=how long a backend that comes (back) takes to get its full share (default: none)"`
	Preserve  []string        `json:"preserve,omitempty" config:"max=2" jsonschema:"description=what the outer packet keeps of the client's: source (address), port"`
	Exhausted string          `json:"exhausted,omitempty" config:"enum=reset|drop|last-weights" jsonschema:"description=overrides the balancer's"`
	Health    *HealthConfig   `json:"health,omitempty" jsonschema:"description=checks of backends that no agent speaks for; without them such a backend counts as healthy"`
	Backends  []BackendConfig `json:"backends" config:"required,min=1,max=4096"`
}

// HealthConfig is a check; one of tcp, http and grpc.
type HealthConfig struct {
	TCP      *TCPCheckConfig  `json:"tcp,omitempty" jsonschema:"description=healthy when a connection opens"`
	HTTP     *HTTPCheckConfig `json:"http,omitempty" jsonschema:"description=healthy when the answer's status is as wanted"`
	GRPC     *GRPCCheckConfig `json:"grpc,omitempty" jsonschema:"description=healthy when grpc.health.v1 says SERVING"`
	Interval plugin.Duration  `json:"interval,omitempty" config:"min=50ms,max=10m" jsonschema:"description=default 2s"`
	Timeout  plugin.Duration  `json:"timeout,omitempty" config:"min=10ms,max=1m" jsonschema:"description=default 1s"`
	Rise     int              `json:"rise,omitempty" config:"max=100" jsonschema:"description=checks passed in a row until a backend is up (default 2)"`
	Fall     int              `json:"fall,omitempty" config:"max=100" jsonschema:"description=checks failed in a row until it is down (default 3)"`
}

// TCPCheckConfig opens a connection.
type TCPCheckConfig struct {
	Port uint16 `json:"port,omitempty" jsonschema:"description=the VIP's first port when 0"`
}

// HTTPCheckConfig asks for a page; redirects are not followed.
type HTTPCheckConfig struct {
	Port   uint16 `json:"port,omitempty" jsonschema:"description=the VIP's first port when 0"`
	Path   string `json:"path,omitempty" jsonschema:"description=default /"`
	Host   string `json:"host,omitempty" jsonschema:"description=Host header; the backend's address when empty"`
	Status int    `json:"status,omitempty" config:"max=599" jsonschema:"description=the one status that is healthy; any 2xx when 0"`
}

// GRPCCheckConfig calls grpc.health.v1.Health/Check without TLS.
type GRPCCheckConfig struct {
	Port    uint16 `json:"port,omitempty" jsonschema:"description=the VIP's first port when 0"`
	Service string `json:"service,omitempty" jsonschema:"description=the whole server when empty"`
}

// BackendConfig is one host of a VIP.
type BackendConfig struct {
	Host         string  `json:"host,omitempty" jsonschema:"description=name of an enrolled host whose agent reports capacity"`
	Address      string  `json:"address,omitempty" jsonschema:"description=where packets are sent; that of the host's agent when empty"`
	Weight       *uint32 `json:"weight,omitempty" config:"max=65535" jsonschema:"description=share among the VIP's backends (default 1); 0 drains: connections stay, no new ones come"`
	Limit        uint32  `json:"limit,omitempty" jsonschema:"description=most connections it is given: at once if no agent reports, beyond those in its account if one does"`
	QUICServerID uint16  `json:"quic_server_id,omitempty" jsonschema:"description=what its QUIC connection ids carry in bytes 2 and 3, for protocol quic"`
}
