package model

// Host is what a hypervisor host can hold.
type Host struct {
	Name       string   `json:"name"`
	Hypervisor string   `json:"hypervisor"` // product and version
	Accels     []string `json:"accels"`
	Machines   []string `json:"machines"` // exact boards, without aliases
	// CPUs are the models it can run with all their flags.
	CPUs []CPU `json:"cpus"`
	// Devices are the models it can plug.
	Devices  []string `json:"devices"`
	Networks []string `json:"networks"`
	// FreeVCPUs and FreeMemory (bytes) are what another VM may take; MaxVCPUs bounds one VM.
	FreeVCPUs  int    `json:"free_vcpus"`
	MaxVCPUs   int    `json:"max_vcpus"`
	FreeMemory uint64 `json:"free_memory"`
	// PostCopy and TLS tell whether moves to and from it can be that.
	PostCopy bool `json:"post_copy"`
	TLS      bool `json:"tls"`
	// ThrottlesItself tells that the hypervisor holds a guest back as it sees fit in a transfer that was begun with that, and
	// takes no orders about it on the way.
	ThrottlesItself bool `json:"throttles_itself,omitempty"`
}

// Guest is what the agent inside a VM reports.
type Guest struct {
	Agent   string `json:"agent"` // its version
	BootID  string `json:"boot_id"`
	Kernel  string `json:"kernel"`
	OS      string `json:"os,omitempty"`
	CPUs    int    `json:"cpus"` // online
	Present int    `json:"present_cpus"`
	Memory  uint64 `json:"memory"` // bytes online
	// Can are capabilities it has or can be given: see the constants Can….
	Can []Capability `json:"can"`
	// NICs as the guest sees them.
	NICs []GuestNIC `json:"nics,omitempty"`
}

// GuestNIC is a card in the guest.
type GuestNIC struct {
	Name    string `json:"name"`
	MAC     string `json:"mac"`
	Driver  string `json:"driver"`
	Carrier bool   `json:"carrier"`
}

// Capability is something a plan may need of a guest.
type Capability struct {
	Name string `json:"name"`
	// State is "ready", "can be given" (a module to load, a policy to set) or "missing".
	State  CapabilityState `json:"state"`
	Detail string          `json:"detail,omitempty"`
}

// CapabilityState says how far a guest is from having a capability.
type CapabilityState string

// States of a capability.
const (
	Ready      CapabilityState = "ready"
	CanBeGiven CapabilityState = "can be given"
	Missing    CapabilityState = "missing"
)

// Names of capabilities. Drivers are CanDriver followed by the device model: "driver:e1000".
const (
	CanCPUHotplug   = "cpu-hotplug"
	CanCPUUnplug    = "cpu-unplug"
	CanDIMM         = "dimm-hotplug"
	CanVirtioMem    = "virtio-mem"
	CanDriver       = "driver:"
	CanMoveNIC      = "nic-swap"  // move addresses and routes from one card to another
	CanMoveDisk     = "disk-swap" // find the same disk again under another model
	CanFreezeAndRun = "freeze"
	// CanHook, followed by a name, is a script that the guest keeps for the manager: "hook:quiesce-db".
	CanHook = "hook:"
)
