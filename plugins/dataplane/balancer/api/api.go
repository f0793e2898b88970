// Package api holds the requests and replies of the balancer's management calls, as JSON.
package api

// Methods, with their requests and replies.
const (
	MethodVIPs     = "balancer.vips"     // VIPsRequest, VIPsReply
	MethodFlows    = "balancer.flows"    // empty, FlowsReply
	MethodDrops    = "balancer.drops"    // empty, DropsReply
	MethodWeights  = "balancer.weights"  // WeightsRequest, empty
	MethodCapture  = "balancer.capture"  // CaptureRequest, CaptureReply
	MethodPeers    = "balancer.peers"    // empty, PeersReply
	MethodIdentity = "balancer.identity" // IdentityRequest, empty
)

// VIPsRequest asks for one VIP, or for all.
type VIPsRequest struct {
	Name string `json:"name,omitempty"`
}

// VIPsReply lists VIPs in the order of the configuration.
type VIPsReply struct {
	VIPs []VIP `json:"vips"`
}

// VIP is one virtual address.
type VIP struct {
	Name     string    `json:"name"`
	Address  string    `json:"address"`
	Protocol string    `json:"protocol"`
	Ports    string    `json:"ports"`
	Packets  uint64    `json:"packets"`
	Bytes    uint64    `json:"bytes"`
	NewFlows uint64    `json:"new_flows"`
	Refused  uint64    `json:"refused"`
	Backends []Backend `json:"backends"`
}

// Backend is one of a VIP's.
type Backend struct {
	Name    string `json:"name"`
	Address string `json:"address,omitempty"`
	// State is serving, full, stale, down, drained, starting or unknown.
	State  string `json:"state"`
	Weight uint32 `json:"weight"`
	// Limit is what the host reported last, Left what is left of it; -1 is no limit.
	Limit      int64  `json:"limit"`
	Left       int64  `json:"left"`
	Dispatched uint64 `json:"dispatched"`
	// ReportAge is how old the last report is in seconds; -1 when there was none.
	ReportAge float64 `json:"report_age"`
	Why       string  `json:"why,omitempty"`
}

// FlowsReply counts the flow table.
type FlowsReply struct {
	Capacity    int           `json:"capacity"`
	Opening     int           `json:"opening"`
	Tentative   int           `json:"tentative"`
	Established int           `json:"established"`
	Brief       int           `json:"brief"`
	Overflow    int           `json:"overflow"`
	Backends    []FlowBackend `json:"backends"`
}

// FlowBackend is a backend's part of the table. The table holds keyed hashes, not addresses: whose flows they are
// cannot be listed.
type FlowBackend struct {
	Name        string `json:"name"`
	Component   string `json:"component"`
	HalfOpen    int    `json:"half_open"`
	Established int    `json:"established"`
	Brief       int    `json:"brief"`
}

// DropsReply counts packets by what became of them, other than being forwarded.
type DropsReply struct {
	Reasons []Reason `json:"reasons"`
}

// Reason is one counter.
type Reason struct {
	Reason string `json:"reason"`
	// Dropped is false for packets that were handed on or answered.
	Dropped bool   `json:"dropped"`
	Packets uint64 `json:"packets"`
}

// WeightsRequest changes weights until they are taken back; all or none.
type WeightsRequest struct {
	Changes []Weight `json:"changes"`
}

// Weight is an operator's weight of a VIP's backend; without one the configuration's holds again, and 0 drains.
type Weight struct {
	VIP     string  `json:"vip"`
	Backend string  `json:"backend"`
	Weight  *uint32 `json:"weight,omitempty"`
}

// CaptureRequest asks for packets of a VIP or of a reason, as drops names them; of all when both are empty.
type CaptureRequest struct {
	VIP     string `json:"vip,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Packets int    `json:"packets"`
	Seconds int    `json:"seconds"`
}

// CaptureReply is a pcap file.
type CaptureReply struct {
	Packets int    `json:"packets"`
	PCAP    []byte `json:"pcap"`
}

// PeersReply lists the other balancers.
type PeersReply struct {
	Active string `json:"active,omitempty"` // who answers for the VIPs: "self", a peer, or nobody known
	Peers  []Peer `json:"peers"`
}

// Peer is another balancer.
type Peer struct {
	Name     string  `json:"name"`
	Alive    bool    `json:"alive"`
	InStep   bool    `json:"in_step"`
	Sent     uint64  `json:"sent"`    // flows that it has acknowledged
	Taken    uint64  `json:"taken"`   // flows of its that are in the table
	Waiting  int     `json:"waiting"` // flows that it has not acknowledged yet
	LagMilli float64 `json:"lag_ms"`  // from a flow's event to its acknowledgement, median of the last ones
	Problem  string  `json:"problem,omitempty"`
}

// IdentityRequest gives this box the file with which it joins a peer.
type IdentityRequest struct {
	Peer string `json:"peer"`
	PEM  []byte `json:"pem"`
}
