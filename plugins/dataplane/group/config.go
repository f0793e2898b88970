package group

import (
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
)

// Config is the section groups of a box: it keeps the control plane of interface groups. Groups and members are
// made with `ratchetctl dataplane group`, not here: they change while the box runs.
type Config struct {
	Lease plugin.Duration `json:"lease,omitempty" config:"min=300ms,max=10m" jsonschema:"description=for how long a host uses a membership that it cannot confirm (default 3s)"`
}

// Desired is a valid Config.
type Desired struct {
	Lease time.Duration
}

// DefaultLease is long enough for a restart of the plugin, and short enough for a client that nobody can reach.
const DefaultLease = 3 * time.Second

// Parse checks the section.
func Parse(_ string, c Config, _ *plugin.Validation) Desired {
	d := Desired{Lease: time.Duration(c.Lease)}
	if d.Lease == 0 {
		d.Lease = DefaultLease
	}
	return d
}
