package agent

import (
	"github.com/ratchetos/ratchet/plugins/dataplane/capacity"
	"github.com/ratchetos/ratchet/plugins/dataplane/group"
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
	return out
}
