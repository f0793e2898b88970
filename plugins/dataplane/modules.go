package dataplane

import (
	"context"
	"log/slog"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/group"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni"
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
	// groups is the part of that name, nil when there is none.
	groups *group.Part
}

// modules are all parts there can be, in the order of their start.
func modules() []module {
	return []module{
		{name: "balancer", methods: balancer.Methods, wanted: func(d *desired) bool { return d.balancer != nil }, make: makeBalancer},
		{name: "groups", hosts: true, methods: group.Methods, wanted: func(d *desired) bool { return d.groups != nil }, make: makeGroups},
		{name: "vnis", hosts: true, methods: vni.Methods, wanted: func(d *desired) bool { return d.vnis != nil }, make: makeVNIs},
		{name: "leases", hosts: true, methods: lease.Methods, wanted: func(d *desired) bool { return d.leases != nil }, make: makeLeases},
	}
}

// An interface that holds a nil pointer would not be nil: the parts get one only when there is a server.

func makeBalancer(m module, r resources) *running {
	o := balancer.Options{Log: r.log, Pins: r.pins, State: r.state, Link: r.link, Changed: r.changed}
	if r.server != nil {
		o.Control = r.server
	}
	return adapt(m, balancer.New(o), func(d *desired) balancer.Desired { return *d.balancer })
}

func makeGroups(m module, r resources) *running {
	o := group.Options{Log: r.log, State: r.state, Changed: r.changed}
	if r.server != nil {
		o.Control = r.server
	}
	return adapt(m, group.New(o), func(d *desired) group.Desired { return *d.groups })
}

func makeVNIs(m module, r resources) *running {
	o := vni.Options{Log: r.log, State: r.state, Changed: r.changed}
	if r.server != nil {
		o.Control = r.server
	}
	if r.groups != nil {
		o.Moved = func(ctx context.Context, l vni.Location) error { return tellGroups(ctx, r.groups, l) }
	}
	return adapt(m, vni.New(o), func(d *desired) vni.Desired { return *d.vnis })
}

// tellGroups carries the place of a VNI to the groups whose members have it.
func tellGroups(ctx context.Context, groups *group.Part, l vni.Location) error {
	if !l.Up {
		_, err := groups.SetDown(ctx, l.Interface.ID, true)
		return err
	}
	_, err := groups.Moved(ctx, l.Interface.ID, group.Location{Underlay: l.Underlay, MAC: l.Interface.MAC, Epoch: overlay.Wire(l.Epoch)})
	return err
}

func makeLeases(m module, r resources) *running {
	o := lease.Options{Log: r.log, State: r.state, Changed: r.changed}
	if r.server != nil {
		o.Control = r.server
	}
	return adapt(m, lease.New(o), func(d *desired) lease.Desired { return *d.leases })
}
