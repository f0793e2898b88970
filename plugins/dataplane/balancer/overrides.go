package balancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/api"
)

// Keys of the state store.
const (
	keyWeights   = "weights"  // operators' weights, one document
	prefixHosts  = "address/" // where a host's agent was last heard from: its backends stay while it is away
	maxOverrides = 1 << 16    // of all VIPs
)

// loadOverrides reads operators' weights.
func (r *run) loadOverrides(ctx context.Context) error {
	b, err := r.o.State.Get(ctx, keyWeights)
	if err != nil || len(b) == 0 {
		return err
	}
	var all []api.Weight
	if err := json.Unmarshal(b, &all); err != nil {
		return fmt.Errorf("read %s: %w", keyWeights, err)
	}
	for _, w := range all {
		if w.Weight != nil {
			r.overrides[override{w.VIP, w.Backend}] = *w.Weight
		}
	}
	return nil
}

// setWeights takes operators' weights: durable first, then in force. It returns when the rings are made.
func (r *run) setWeights(ctx context.Context, changes []api.Weight) error {
	return r.ask(ctx, func() error {
		r.mu.Lock()
		next, err := r.override(changes)
		r.mu.Unlock()
		if err != nil {
			return err
		}
		b, err := json.Marshal(weights(next))
		if err != nil {
			return fmt.Errorf("store weights: %w", err)
		}
		if err := r.o.State.Put(ctx, keyWeights, b); err != nil {
			return fmt.Errorf("store weights: %w", err)
		}
		r.mu.Lock()
		r.overrides = next
		for _, c := range changes {
			v := r.byName[c.VIP]
			r.mark(v)
			v.urgent = true // the operator waits for it
		}
		r.mu.Unlock()
		r.flush()
		return nil
	})
}

// override makes the next set of operators' weights. r.mu is held.
func (r *run) override(changes []api.Weight) (map[override]uint32, error) {
	next := make(map[override]uint32, len(r.overrides)+len(changes))
	for k, w := range r.overrides {
		// What the configuration does not have any more is forgotten here.
		if v := r.byName[k.vip]; v != nil && v.has(k.backend) {
			next[k] = w
		}
	}
	for _, c := range changes {
		v := r.byName[c.VIP]
		switch {
		case v == nil:
			return nil, fmt.Errorf("no VIP %q: ratchetctl dataplane vips lists them", c.VIP)
		case !v.has(c.Backend):
			return nil, fmt.Errorf("VIP %s has no backend %q", c.VIP, c.Backend)
		case c.Weight == nil:
			delete(next, override{c.VIP, c.Backend})
		case *c.Weight > 65535:
			return nil, fmt.Errorf("weight %d is above 65535", *c.Weight)
		default:
			next[override{c.VIP, c.Backend}] = *c.Weight
		}
	}
	if len(next) > maxOverrides {
		return nil, fmt.Errorf("%d weights would differ from the configuration: at most %d; change the configuration", len(next), maxOverrides)
	}
	return next, nil
}

func (v *vip) has(backend string) bool {
	return slices.ContainsFunc(v.members, func(m member) bool { return m.name == backend })
}

func weights(all map[override]uint32) []api.Weight {
	out := make([]api.Weight, 0, len(all))
	for k, w := range all {
		out = append(out, api.Weight{VIP: k.vip, Backend: k.backend, Weight: &w})
	}
	slices.SortFunc(out, func(a, b api.Weight) int {
		return strings.Compare(a.VIP+"\x00"+a.Backend, b.VIP+"\x00"+b.Backend)
	})
	return out
}

// loadAddresses reads where hosts were last heard from.
func (r *run) loadAddresses(ctx context.Context) error {
	r.resolved = map[string]netip.Addr{}
	keys, err := r.o.State.List(ctx, prefixHosts)
	if err != nil {
		return fmt.Errorf("list addresses of hosts: %w", err)
	}
	for _, key := range keys {
		b, err := r.o.State.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		if a, err := netip.ParseAddr(string(b)); err == nil {
			r.resolved[strings.TrimPrefix(key, prefixHosts)] = a
		}
	}
	return nil
}

// resolve finds the addresses of hosts that are configured by name alone and says whether one has changed.
func (r *run) resolve(ctx context.Context) (changed bool) {
	if r.o.Control == nil {
		return false
	}
	var failed []error
	heard := map[string]netip.Addr{}
	for _, h := range r.o.Control.Hosts() {
		if a := addressOf(h.Address); h.Joined && a.IsValid() {
			heard[h.Name] = a
		}
	}
	r.mu.Lock()
	hosts := map[string]bool{}
	for _, b := range r.backends {
		if b.key.host != "" && !b.key.address.IsValid() {
			hosts[b.key.host] = true
		}
	}
	r.mu.Unlock()
	for host := range hosts {
		a, ok := heard[host]
		if ok && r.resolved[host] != a {
			if err := r.o.State.Put(ctx, prefixHosts+host, []byte(a.String())); err != nil {
				failed = append(failed, fmt.Errorf("store address of %s: %w", host, err))
			}
			r.resolved[host] = a
		}
	}
	lost := map[string]error{}
	r.mu.Lock()
	for _, b := range r.backends {
		a := r.resolved[b.key.host]
		switch source := r.d.missingSource(a); {
		case b.key.host == "" || b.key.address.IsValid() || !a.IsValid() || b.address == a:
		case source != "":
			lost[b.key.host] = fmt.Errorf("host %s speaks from %v, and there is no balancer.%s: set it, or give the host's backends an address", b.key.host, a, source)
		default:
			b.move(a)
			changed = true
			r.markUsers(b)
		}
	}
	r.mu.Unlock()
	for _, host := range slices.Sorted(maps.Keys(lost)) {
		failed = append(failed, lost[host])
	}
	r.setProblem(&r.problems.hosts, errors.Join(failed...))
	return changed
}
