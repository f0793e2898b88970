package dataplane

import (
	"log/slog"

	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// resources is what the parts of one process share.
type resources struct {
	log *slog.Logger
	// pins is a directory on a bpffs, "" when no part has programs.
	pins   string
	state  control.State
	server *control.Server // nil without agents
	// link finds a link of the namespace by its name.
	link func(name string) (index, mtu int, ok bool)
	// changed asks for what the parts show to be shown soon.
	changed func()
}

// modules are all parts there can be.
func modules() []module {
	return nil
}
