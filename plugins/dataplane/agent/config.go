package agent

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/plugins/dataplane/capacity"
	"github.com/ratchetos/ratchet/plugins/dataplane/group"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni"
)

// maxBoxes bounds how many boxes one host talks to.
const maxBoxes = 16

// defaultPins is where programs and maps are pinned unless the file says otherwise.
const defaultPins = "/sys/fs/bpf/ratchet-agent"

// Config is the agent's file, YAML.
type Config struct {
	Boxes []BoxConfig `json:"boxes" config:"required" jsonschema:"description=boxes that this host talks to"`
	Pins  string      `json:"pins,omitempty" jsonschema:"description=directory on a bpffs for programs that outlive the agent; /sys/fs/bpf/ratchet-agent when empty"`

	Decapsulation *DecapConfig       `json:"decapsulation,omitempty" jsonschema:"description=this host is a backend of balancers"`
	Capacity      *capacity.Config   `json:"capacity,omitempty" jsonschema:"description=how many more connections each component of this host can take, for the boxes' balancers"`
	Groups        *group.AgentConfig `json:"groups,omitempty" jsonschema:"description=this host has clients of interface groups"`

	Attachments *vni.AgentConfig   `json:"attachments,omitempty" jsonschema:"description=ends of virtual network interfaces that instances on this host have"`
	Leases      *lease.AgentConfig `json:"leases,omitempty" jsonschema:"description=services that this host consumes or produces"`
}

// BoxConfig is one box.
type BoxConfig struct {
	Address  string `json:"address" config:"required" jsonschema:"description=address and port of its agents.listen, as 192.0.2.1:7400"`
	Identity string `json:"identity" config:"required" jsonschema:"description=the file that ratchetctl dataplane agent enroll printed there"`
}

// Load reads the file and finds everything that is wrong with it.
func Load(path string) (*Config, config.Diagnostics, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read agent's configuration: %w", err)
	}
	c := &Config{}
	found := config.Decode(path, text, c, func(errorf func(path, format string, args ...any)) { c.check(errorf) })
	if c.Pins == "" {
		c.Pins = defaultPins
	}
	return c, found, nil
}

func (c *Config) check(errorf func(path, format string, args ...any)) {
	if len(c.Boxes) == 0 || len(c.Boxes) > maxBoxes {
		errorf("boxes", "%d boxes: a host talks to 1 to %d", len(c.Boxes), maxBoxes)
	}
	seen := map[string]int{}
	for i, b := range c.Boxes {
		at := fmt.Sprintf("boxes[%d]", i)
		if _, port, err := net.SplitHostPort(b.Address); b.Address != "" && (err != nil || port == "") {
			errorf(at+".address", "%q is not ADDRESS:PORT, as 192.0.2.1:7400", b.Address)
		}
		if first, twice := seen[b.Address]; twice {
			errorf(at+".address", "%s is already boxes[%d]", b.Address, first)
		}
		seen[b.Address] = i
		if b.Identity != "" && !filepath.IsAbs(b.Identity) {
			errorf(at+".identity", "%q is not an absolute path", b.Identity)
		}
	}
	if c.Capacity != nil {
		c.Capacity.Check("capacity", errorf)
	}
	if c.Decapsulation != nil {
		c.Decapsulation.check("decapsulation", c.overlay(), errorf)
	}
	if c.Attachments != nil {
		c.Attachments.Check("attachments", errorf)
	}
	if c.Leases != nil {
		c.Leases.Check(func(path, format string, args ...any) { errorf("leases."+path, format, args...) })
	}
	if c.Pins != "" && !filepath.IsAbs(c.Pins) {
		errorf("pins", "%q is not an absolute path", c.Pins)
	}
}

// overlay says whether this host takes part in the overlay, which has a VXLAN port of its own.
func (c *Config) overlay() bool { return c.Groups != nil || c.Attachments != nil || c.Leases != nil }
