package agent

import (
	"github.com/ratchetos/ratchet/plugins/dataplane/capacity"
	"github.com/ratchetos/ratchet/plugins/dataplane/group"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni"
)

// maker makes one side.
type maker struct {
	name string
	pins bool // it has programs
	make func(resources) (side, error)
}

// sidesOf are the sides that the file asks for.
func sidesOf(c *Config) []maker {
	var out []maker
	if c.Decapsulation != nil {
		out = append(out, maker{"decapsulation", true, func(r resources) (side, error) {
			return newDecapsulation(r, c.Decapsulation, c.overlay())
		}})
	}
	if c.Capacity != nil {
		out = append(out, maker{"capacity", false, func(r resources) (side, error) {
			return capacity.New(capacity.Options{Log: r.log, Clients: r.clients, Config: *c.Capacity})
		}})
	}
	if c.Groups != nil {
		out = append(out, maker{"groups", true, func(r resources) (side, error) {
			return group.NewAgent(group.AgentOptions{Log: r.log, Clients: r.clients, Pins: r.pins, Config: *c.Groups}), nil
		}})
	}
	if c.Attachments != nil {
		out = append(out, maker{"attachments", true, func(r resources) (side, error) {
			return vni.NewAgent(vni.AgentOptions{Log: r.log, Clients: r.clients, Pins: r.pins, Config: *c.Attachments})
		}})
	}
	if c.Leases != nil {
		out = append(out, maker{"leases", true, func(r resources) (side, error) {
			return lease.NewAgent(lease.AgentOptions{Log: r.log, Clients: r.clients, Host: r.name, Pins: r.pins, Config: *c.Leases}), nil
		}})
	}
	return out
}
