// Package api holds the requests and replies of leasing's management calls, as JSON.
package api

import "net/netip"

// The methods of the dataplane's management service that are about leases.
const (
	MethodList     = "lease.list"     // ListRequest → ListReply
	MethodShow     = "lease.show"     // Name → Service
	MethodServices = "lease.services" // {} → ServicesReply
	MethodRevoke   = "lease.revoke"   // RevokeRequest → RevokeReply
)

// Name asks for one service.
type Name struct {
	Name string `json:"name"`
}

// ListRequest asks for leases.
type ListRequest struct {
	Service string `json:"service,omitempty"` // all when empty
	Limit   int    `json:"limit,omitempty"`   // 1,000 when 0
}

// ListReply answers MethodList; what runs out first stands first.
type ListReply struct {
	Leases []Lease `json:"leases"`
}

// Lease is one lease that a consumer may be using.
type Lease struct {
	Service  string `json:"service"`
	Producer string `json:"producer"`
	Consumer string `json:"consumer"`
	Epoch    uint64 `json:"epoch"`
	Left     string `json:"left"` // as "9.5s"
	// Ending: it is not renewed any more, and counts until the consumer shows that it has stopped.
	Ending bool `json:"ending,omitempty"`
}

// ServicesReply answers MethodServices.
type ServicesReply struct {
	Services []Service `json:"services"`
}

// Service is what this box, as a leasing agent, knows of one.
type Service struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	VNI       uint32       `json:"vni"`
	TTL       string       `json:"ttl"`
	Consumers int          `json:"consumers"`
	Leased    uint64       `json:"leased"`
	Share     uint64       `json:"share"` // of its producers' quotas, held by this box
	Granted   uint64       `json:"granted"`
	Renewed   uint64       `json:"renewed"`
	Denied    uint64       `json:"denied"`
	// Recovering: after a restart nothing new is granted until the leases of before have run out.
	Recovering bool       `json:"recovering,omitempty"`
	Producers  []Producer `json:"producers,omitempty"`
}

// Producer is one producer of a service.
type Producer struct {
	Name   string     `json:"name"`
	Host   string     `json:"host"`
	At     netip.Addr `json:"at"`
	VNI    uint32     `json:"vni,omitempty"`
	Epoch  uint64     `json:"epoch"`
	State  string     `json:"state"` // serving, draining, gone, silent
	Share  uint32     `json:"share"`
	Leased uint32     `json:"leased"`
}

// RevokeRequest ends leases of a service: of a producer, of a consumer, or of both.
type RevokeRequest struct {
	Service  string `json:"service"`
	Producer string `json:"producer,omitempty"`
	Consumer string `json:"consumer,omitempty"`
}

// RevokeReply says how many.
type RevokeReply struct {
	Revoked int `json:"revoked"`
}
