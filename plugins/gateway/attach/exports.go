package attach

import (
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
)

// Exports returns what clients of one listener see of a server's exports: the volumes that they name with a token, and
// those that want none. as is the identity of clients who give no token and need none because they can reach the
// listener; empty for listeners that anyone may reach.
//
// A client without the right token is told what one is told who asks for a volume that does not exist, and volumes that
// want a token are not listed.
func (k *Keeper) Exports(inner nbd.Exports, as string) nbd.Exports { return gated{k, inner, as} }

// gated are exports as the clients of one listener see them: each behind the gate of its volume.
type gated struct {
	keeper *Keeper
	inner  nbd.Exports
	as     string
}

var (
	_ nbd.Exports   = gated{}
	_ nbd.Admission = admission{}
)

// Lookup implements nbd.Exports.
func (d gated) Lookup(name string) *nbd.Export {
	volume, secret, hasSecret := Split(name)
	e := d.inner.Lookup(volume)
	if e == nil {
		return nil
	}
	volume = e.Name // the empty name asks for the only volume
	token, ok := d.keeper.admit(volume, secret, hasSecret, d.as)
	if !ok {
		return nil
	}
	g, err := d.keeper.Gate(volume)
	if err != nil {
		return nil
	}
	view := e.View()
	view.ReadOnly = view.ReadOnly || token.Rights != ReadWrite
	view.Admit = func(expel func()) nbd.Admission {
		s := g.Enter(token.Identity, expel)
		// A token that was revoked after it was looked at: the gate could not expel who was not in it yet.
		if _, still := d.keeper.admit(volume, secret, hasSecret, d.as); !still {
			expel()
		}
		return admission{s}
	}
	return view
}

// List implements nbd.Exports.
func (d gated) List() []*nbd.Export {
	var list []*nbd.Export
	for _, e := range d.inner.List() {
		if _, ok := d.keeper.admit(e.Name, "", false, d.as); ok {
			list = append(list, e)
		}
	}
	return list
}

// admission is a session whose errors have the numbers that clients are told.
type admission struct{ *Session }

func (a admission) Begin() error {
	err := a.Session.Begin()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrHandedOver):
		return fmt.Errorf("%w: %w", nbd.ErrShutdown, err)
	}
	return fmt.Errorf("%w: %w", nbd.ErrPermission, err)
}
