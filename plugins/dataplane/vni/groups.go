package vni

import (
	"context"

	"github.com/ratchetos/ratchet/plugins/dataplane/group"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// Groups are the interface groups whose members VNIs are; group.Part has them.
type Groups interface {
	Moved(ctx context.Context, vni uint32, to group.Location) (group.Version, error)
	SetDown(ctx context.Context, vni uint32, down bool) (group.Version, error)
}

var _ Groups = (*group.Part)(nil)

// ToGroups makes an Options.Moved that tells the interface groups. Both of its calls change nothing when they are
// repeated.
func ToGroups(g Groups) func(context.Context, Location) error {
	return func(ctx context.Context, l Location) error {
		if !l.Up {
			_, err := g.SetDown(ctx, l.Interface.ID, true)
			return err
		}
		_, err := g.Moved(ctx, l.Interface.ID, group.Location{
			Underlay: l.Underlay, MAC: l.Interface.MAC, Epoch: overlay.Wire(l.Epoch),
		})
		return err
	}
}
