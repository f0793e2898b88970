package model

import "github.com/ratchetos/ratchet/core/config/strict"

// TemplateVersion is the format of the Templates written here.
const TemplateVersion = 1

// Template is a migration of many VMs: which ones, to what, where, and how many may fail. Package template expands it.
type Template struct {
	Version     int       `json:"version" config:"required,enum=1" jsonschema:"description=version of this format; always 1"`
	Name        string    `json:"name" config:"required" jsonschema:"description=name of the template"`
	Description string    `json:"description,omitempty" jsonschema:"description=for people"`
	Select      Selector  `json:"select" jsonschema:"description=which VMs"`
	Type        VMType    `json:"type" jsonschema:"description=what they become; what is left out stays"`
	Place       Placement `json:"place" jsonschema:"description=where they go"`
	Goal        Goal      `json:"goal" jsonschema:"description=what each move may cost"`
	Priority    int       `json:"priority,omitempty" config:"min=-100,max=100" jsonschema:"description=moves of a higher one go first and get the bandwidth"`
	Hooks       Hooks     `json:"hooks" jsonschema:"description=scripts that the guests keep for it"`
	Waves       Waves     `json:"waves" jsonschema:"description=how many at a time"`
	Failures    Failures  `json:"failures" jsonschema:"description=how many may fail before no other is started"`
}

// Selector picks VMs: those that meet every condition given. One that picks all VMs of all hosts must say so by All.
// Names are patterns with * and ?.
type Selector struct {
	All          bool              `json:"all,omitempty" jsonschema:"description=yes, every VM of every host is meant"`
	VMs          []string          `json:"vms,omitempty" config:"max=1000" jsonschema:"description=names of VMs, with * and ?"`
	Except       []string          `json:"except,omitempty" config:"max=1000" jsonschema:"description=names of VMs that stay, with * and ?"`
	Hosts        []string          `json:"hosts,omitempty" config:"max=1000" jsonschema:"description=names of the hosts they are on, with * and ?"`
	Labels       map[string]string `json:"labels,omitempty" config:"max=64" jsonschema:"description=labels that they have, with * and ? in the values"`
	Types        []string          `json:"types,omitempty" config:"max=64" jsonschema:"description=names of the types they have"`
	Capabilities []string          `json:"capabilities,omitempty" config:"max=64" jsonschema:"description=what their guests can do or can be made to do, as virtio-mem or driver:e1000"`
}

// Placement picks a target host for each VM, never the one it is on.
type Placement struct {
	Hosts      []string    `json:"hosts,omitempty" config:"max=1000" jsonschema:"description=names of hosts that may take them, with * and ?; any by default"`
	Policy     string      `json:"policy,omitempty" config:"enum=spread|pack" jsonschema:"description=spread (default) fills the emptiest host first, pack the fullest that still has room"`
	MaxPerHost int         `json:"max_per_host,omitempty" config:"min=0" jsonschema:"description=how many one host takes at most; 0 is no limit"`
	KeepVCPUs  int         `json:"keep_vcpus,omitempty" config:"min=0" jsonschema:"description=processors to leave free on each host"`
	KeepMemory strict.Size `json:"keep_memory,omitempty" jsonschema:"description=memory to leave free on each host"`
}

// Hooks are scripts in a directory of the guest, named here and run by its agent. A guest whose administrator has not put
// them there cannot be moved by the template. The appliance runs nothing: whoever can write a template shall not thereby
// be able to run what he likes on manager, host or guest.
type Hooks struct {
	Before []string `json:"before,omitempty" config:"max=8" jsonschema:"description=before anything is changed; one that fails ends the move"`
	After  []string `json:"after,omitempty" config:"max=8" jsonschema:"description=after the last change; one that fails is reported"`
}

// Waves bound what is under way. A wave starts when the one before has ended, and Pause has passed.
type Waves struct {
	Canary int             `json:"canary,omitempty" config:"min=0,max=1000" jsonschema:"description=VMs in a first wave of their own; the rest follows only if all of them arrive"`
	Size   int             `json:"size,omitempty" config:"min=0,max=1000" jsonschema:"description=VMs in a wave (default 4)"`
	Pause  strict.Duration `json:"pause,omitempty" config:"max=168h" jsonschema:"description=between two waves"`
}

// Failures is a failure budget. The zero one ends with the first failure.
type Failures struct {
	Max     int `json:"max,omitempty" config:"min=0" jsonschema:"description=how many moves may fail"`
	Percent int `json:"percent,omitempty" config:"min=0,max=100" jsonschema:"description=the same as a share of the VMs selected; the larger of the two counts"`
}
