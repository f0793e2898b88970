// Package api holds the requests and replies of the migration plugin's own management calls (core's Invoke), as JSON.
package api

import "time"

// Methods. The requests of the two lists are empty.
const (
	MethodHosts = "hosts.list" // HostsReply
	MethodVMs   = "vms.list"   // VMsReply
	MethodVM    = "vms.show"   // VMRequest → VMReply
	// A host's credentials.
	MethodEnroll = "hosts.enroll" // HostRequest → EnrollReply
	MethodRevoke = "hosts.revoke" // HostRequest → empty
)

// HostRequest names a host.
type HostRequest struct {
	Name string `json:"name"`
}

// EnrollReply is shown once: the key in it is not kept.
type EnrollReply struct {
	Bundle string `json:"bundle"` // PEM: certificate, key, authority
}

// HostsReply answers MethodHosts, in the order of the configuration.
type HostsReply struct {
	Hosts []Host `json:"hosts"`
}

// Host is one configured host.
type Host struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	// State is "up", "away" or, before the first attempt has ended, "connecting".
	State      string    `json:"state"`
	Since      time.Time `json:"since"`
	Hypervisor string    `json:"hypervisor,omitempty"`
	// Moves says whether VMs can be moved to and from it.
	Moves bool `json:"moves,omitempty"`
	VMs   int  `json:"vms"`
	// Problem is why the host is away.
	Problem string `json:"problem,omitempty"`
}

// VMsReply answers MethodVMs: the VMs of all hosts that are up.
type VMsReply struct {
	VMs []VM `json:"vms"`
}

// VM is one virtual machine.
type VM struct {
	Name     string   `json:"name"`
	Host     string   `json:"host"`
	UUID     string   `json:"uuid,omitempty"`
	State    string   `json:"state"`
	Detail   string   `json:"detail,omitempty"` // the hypervisor's own word for the state
	VCPUs    int      `json:"vcpus"`
	MaxVCPUs int      `json:"max_vcpus"`
	Memory   uint64   `json:"memory"` // bytes
	Devices  []Device `json:"devices,omitempty"`
}

// Device is one device that was given to a VM.
type Device struct {
	ID      string `json:"id,omitempty"`
	Model   string `json:"model"`
	Kind    string `json:"kind"`
	Backing string `json:"backing,omitempty"`
}

// VMRequest names a VM; Host is needed when several hosts have one of that name.
type VMRequest struct {
	Name string `json:"name"`
	Host string `json:"host,omitempty"`
}

// VMReply answers MethodVM.
type VMReply struct {
	VM
	// Events are the last ones of the VM, oldest first.
	Events []Event `json:"events,omitempty"`
}

// Event is something that happened to a VM.
type Event struct {
	Time   time.Time `json:"time"`
	Name   string    `json:"name"`
	Detail string    `json:"detail,omitempty"`
}
