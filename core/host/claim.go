package host

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// identify names what a Want is about, "" when nobody else can want the same.
func (h *Host) identify(ctx context.Context, u *unit, w *pluginpb.Want) (string, error) {
	id, err := h.resources.Identify(ctx, u.name, w)
	if err != nil {
		return "", err
	}
	if u.program.Descriptor.GetOwnNetns() && strings.HasPrefix(id, "tcp:") {
		return "", nil // its own namespace, its own ports
	}
	return id, nil
}

// identifyAll gives the identity behind each want, by the want's name. What is optional and not there has none.
func (h *Host) identifyAll(ctx context.Context, u *unit, wants []*pluginpb.Want) (map[string]string, error) {
	ids := make(map[string]string, len(wants))
	for _, w := range wants {
		id, err := h.identify(ctx, u, w)
		if err != nil && w.GetOptional() {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.GetPath(), err)
		}
		ids[w.GetName()] = id
	}
	return ids, nil
}

// claim notes what the plugin is about to open. Apply has compared all plugins before; this
// is for what changed since, and for handles that are claimed at run time. all says that
// wants is everything the plugin wants.
func (h *Host) claim(ctx context.Context, u *unit, wants []*pluginpb.Want, all bool) error {
	ids, err := h.identifyAll(ctx, u, wants)
	if err != nil {
		return err
	}
	h.claimMu.Lock()
	defer h.claimMu.Unlock()
	if err := h.compare(u, ids, wants); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if all {
		u.ids = ids
		return nil
	}
	for name, id := range ids {
		if _, ok := u.ids[name]; ok {
			return fmt.Errorf("claim %s: a handle of this name is open already", name)
		}
		u.ids[name] = id
	}
	return nil
}

// claimable says whether the plugin could claim all of it now.
func (h *Host) claimable(ctx context.Context, u *unit, wants []*pluginpb.Want) error {
	ids, err := h.identifyAll(ctx, u, wants)
	if err != nil {
		return err
	}
	h.claimMu.Lock()
	defer h.claimMu.Unlock()
	return h.compare(u, ids, wants)
}

// compare looks for another plugin that has one of ids. It needs claimMu.
func (h *Host) compare(u *unit, ids map[string]string, wants []*pluginpb.Want) error {
	var all []claim
	for _, other := range h.units {
		if other != u {
			all = append(all, other.claims()...)
		}
	}
	for _, w := range wants {
		all = append(all, claim{plugin: u.name, id: ids[w.GetName()], path: w.GetPath()})
	}
	for _, c := range conflicts(all) {
		if c.Wants == u.name {
			return c
		}
	}
	return nil
}

// claims are what the plugin has.
func (u *unit) claims() []claim {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := make([]claim, 0, len(u.ids))
	for name, id := range u.ids {
		out = append(out, claim{plugin: u.name, id: id, path: name, held: true})
	}
	return out
}

// request is what every Open for the plugin has in common.
func (h *Host) request(u *unit) (Request, error) {
	r := Request{Plugin: u.name, UID: u.uid, Trusted: u.program.trusted(), Dir: filepath.Join(h.opts.StateDir, "plugins", u.name)}
	if u.program.Descriptor.GetOwnNetns() && h.privileged {
		ns, err := u.namespace()
		if err != nil {
			return Request{}, err
		}
		r.NetNS = ns
	}
	return r, nil
}

// ownsPID says whether pid is one of the plugin's processes that is waited for.
func (u *unit) ownsPID(pid int) bool {
	return u.ask(func() bool {
		for _, a := range []*attempt{u.active, u.spare} {
			if a == nil {
				continue
			}
			if p := a.current(); p != nil && p.pid() == pid {
				return true
			}
		}
		return false
	})
}
