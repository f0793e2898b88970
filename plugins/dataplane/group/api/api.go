// Package api holds the requests and replies of the interface groups' management calls, as JSON.
package api

import (
	"net/netip"
	"time"
)

// The methods of the dataplane's management service that are about groups.
const (
	MethodList    = "group.list"    // {} → ListReply
	MethodShow    = "group.show"    // Name → Group
	MethodClients = "group.clients" // {} → ClientsReply
	MethodLog     = "group.log"     // {} → LogReply
	MethodCreate  = "group.create"  // CreateRequest → Changed
	MethodDelete  = "group.delete"  // Name → Changed
	MethodAdd     = "group.add"     // AddRequest → Changed
	MethodRemove  = "group.remove"  // MemberRequest → Changed
	MethodDrain   = "group.drain"   // DrainRequest → Changed
	MethodPromote = "group.promote" // {} → Changed
)

// Name asks for one group.
type Name struct {
	Name string `json:"name"`
}

// CreateRequest makes a group.
type CreateRequest struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	Policy    string       `json:"policy,omitempty"` // closed when empty
}

// AddRequest makes a VNI a member.
type AddRequest struct {
	Group  string `json:"group"`
	Member string `json:"member"`
	VNI    uint32 `json:"vni"`
	Weight uint16 `json:"weight,omitempty"` // 1 when 0
	// Host is the address of the member's host. Without it the member is down until its VNI is attached.
	Host netip.Addr `json:"host,omitzero"`
	// MAC is of the instance's interface; the host's own stack when empty.
	MAC string `json:"mac,omitempty"`
}

// MemberRequest names a member.
type MemberRequest struct {
	Group  string `json:"group"`
	Member string `json:"member"`
}

// DrainRequest ends new flows to a member, or allows them again.
type DrainRequest struct {
	MemberRequest
	Undo bool `json:"undo,omitempty"`
}

// Changed says which version a call made.
type Changed struct {
	Version string `json:"version"`
}

// ListReply lists the groups by name.
type ListReply struct {
	Version string  `json:"version"`
	Leads   bool    `json:"leads"`
	Groups  []Group `json:"groups"`
}

// Group is one group.
type Group struct {
	ID        uint32       `json:"id"`
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	Policy    string       `json:"policy"`
	Changed   uint64       `json:"changed"` // epoch
	Members   []Member     `json:"members"`
}

// Member is one member of a group.
type Member struct {
	Name   string     `json:"name"`
	State  string     `json:"state"`
	Weight uint16     `json:"weight"`
	Share  float64    `json:"share"` // of new flows
	VNI    uint32     `json:"vni"`
	Host   netip.Addr `json:"host,omitzero"`
	MAC    string     `json:"mac,omitempty"`
	Epoch  uint16     `json:"epoch"` // of the attachment
}

// ClientsReply lists who follows the groups, the slowest first.
type ClientsReply struct {
	Version string   `json:"version"`
	Clients []Client `json:"clients"`
}

// Client is a host that follows the groups.
type Client struct {
	Host      string        `json:"host"`
	Applied   string        `json:"applied"`
	Confirmed time.Duration `json:"confirmed"` // ago, nanoseconds
	Lapsed    bool          `json:"lapsed"`
	Sent      uint64        `json:"sent"`    // packets to members
	Dropped   uint64        `json:"dropped"` // packets
	// Outcomes counts packets that were not simply sent, by what became of them.
	Outcomes map[string]uint64 `json:"outcomes,omitempty"`
}

// LogReply lists the latest changes, oldest first.
type LogReply struct {
	Entries []Entry `json:"entries"`
}

// Entry is one change.
type Entry struct {
	Version string `json:"version"`
	What    string `json:"what"`
}
