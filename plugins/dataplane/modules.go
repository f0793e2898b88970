package dataplane

import (
	"log/slog"

	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/group"
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

// modules are all parts there can be, in the order of their start.
func modules() []module {
	return []module{
		{name: "groups", methods: group.Methods, wanted: func(d *desired) bool { return d.groups != nil }, make: makeGroups},
	}
}

func makeGroups(m module, r resources) *running {
	o := group.Options{Log: r.log, State: r.state, Changed: r.changed}
	if r.server != nil { // an interface that holds a nil pointer would not be nil
		o.Control = r.server
	}
	return adapt(m, group.New(o), func(d *desired) group.Desired { return *d.groups })
}
