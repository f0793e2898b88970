// Package load is what hosts tell of what they have to do: values that hypervisors fill in and the schedule reads, so that neither
// knows the other.
package load

import "time"

// Host is what a host has to do. What its hypervisor cannot tell is zero.
type Host struct {
	// CPUs are the host's processors, Busy how long all of them together have worked since it began: a counter.
	CPUs int           `json:"cpus,omitempty"`
	Busy time.Duration `json:"busy,omitempty"`
	// Memory is what the host has, Available what can be taken of it without swapping, in bytes.
	Memory    uint64 `json:"memory,omitempty"`
	Available uint64 `json:"available,omitempty"`
	// NICs by name, of the host itself.
	NICs map[string]NIC `json:"nics,omitempty"`
}

// NIC is what a card has carried since the host began, in bytes.
type NIC struct {
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
}
