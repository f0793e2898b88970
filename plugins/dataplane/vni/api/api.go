// Package api holds the requests and replies of the VNIs' management calls, as JSON.
package api

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The methods of the dataplane's management service that are about VNIs.
const (
	MethodList = "vni.list" // {} → ListReply
	MethodMove = "vni.move" // MoveRequest → {}
	// MethodPackets is what the fences of the hosts have counted.
	MethodPackets = "vni.packets" // {} → PacketsReply
)

// PacketsReply lists the hosts by name.
type PacketsReply struct {
	Hosts []Host `json:"hosts"`
}

// Host is what one host's fence has counted since it was made.
type Host struct {
	Name    string            `json:"name"`
	Packets map[string]uint64 `json:"packets"` // by outcome; delivered and sent are no drops
}

// PacketColumns are the table of counts.
func PacketColumns() []string { return []string{"HOST", "OUTCOME", "PACKETS"} }

// Rows are a host's lines in that table, those that count nothing left out.
func (h Host) Rows() [][]string {
	var out [][]string
	for _, outcome := range slices.Sorted(maps.Keys(h.Packets)) {
		if n := h.Packets[outcome]; n > 0 {
			out = append(out, []string{h.Name, outcome, strconv.FormatUint(n, 10)})
		}
	}
	return out
}

// ListReply lists the VNIs by their id.
type ListReply struct {
	Term       uint64      `json:"term"`
	Leads      bool        `json:"leads"`    // this box decides
	Majority   bool        `json:"majority"` // of the hosts follows it
	Interfaces []Interface `json:"interfaces"`
}

// Interface is one VNI.
type Interface struct {
	ID         uint32       `json:"id"`
	MAC        string       `json:"mac"`
	Addresses  []netip.Addr `json:"addresses,omitempty"`
	State      string       `json:"state"` // recovering, down, attaching, attached, fencing
	Epoch      uint64       `json:"epoch"` // of the latest attachment
	Holder     *Candidate   `json:"holder,omitempty"`
	Underlay   netip.Addr   `json:"underlay,omitzero"`
	Candidates []Candidate  `json:"candidates"`
}

// Candidate is an instance that may hold it.
type Candidate struct {
	Host     string `json:"host"`
	Instance string `json:"instance"`
	Healthy  bool   `json:"healthy"`
	Eligible bool   `json:"eligible"` // healthy, and for long enough since it last failed
	Failures int    `json:"failures,omitempty"`
}

func (c Candidate) String() string { return c.Host + "/" + c.Instance }

// MoveRequest hands a VNI to one of its candidates.
type MoveRequest struct {
	ID       uint32 `json:"id"`
	Host     string `json:"host"`
	Instance string `json:"instance"`
}

// Columns are the table of VNIs, on page, console and command line.
func Columns() []string {
	return []string{"VNI", "ADDRESSES", "STATE", "HOLDER", "EPOCH", "STAND-BY"}
}

// Row is a VNI's line in that table.
func (i Interface) Row() []string {
	var addresses, others []string
	for _, a := range i.Addresses {
		addresses = append(addresses, a.String())
	}
	holder := "-"
	for _, c := range i.Candidates {
		switch {
		case i.Holder != nil && c.Host == i.Holder.Host && c.Instance == i.Holder.Instance:
			holder = c.String()
		case !c.Healthy:
			others = append(others, c.String()+" (dead)")
		case !c.Eligible:
			others = append(others, c.String()+" (held back)")
		default:
			others = append(others, c.String())
		}
	}
	return []string{
		strconv.FormatUint(uint64(i.ID), 10), strings.Join(addresses, " "), i.State, holder,
		strconv.FormatUint(i.Epoch, 10), strings.Join(others, " "),
	}
}

// Covered says whether someone could take the VNI over now.
func (i Interface) Covered() bool {
	for _, c := range i.Candidates {
		if c.Eligible && (i.Holder == nil || c.String() != i.Holder.String()) {
			return true
		}
	}
	return false
}
