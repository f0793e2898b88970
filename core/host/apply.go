package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
	"github.com/ratchetos/ratchet/core/supervise"
)

// Apply makes the enabled plugins those in sections, and touches only what changed: plugins
// that are not there are stopped, new ones started, changed ones reconfigured, in place if
// they can. It returns when all of that is done or ctx ends. Errors (InvalidError,
// ConflictError and others) are joined; the plugins they do not concern run all the same,
// and a running plugin keeps its old section if it does not accept the new one. When ctx ends
// first, plugins that are on their way go on, and the running ones that nobody has asked yet
// keep their section.
func (h *Host) Apply(ctx context.Context, sections map[string]Section) error {
	h.applyMu.Lock()
	defer h.applyMu.Unlock()
	if h.ending.Err() != nil {
		return errShutdown
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.ending, cancel)()
	h.generation++
	var errs []error
	for name := range sections {
		if h.units[name] == nil {
			_, err := h.unit(name)
			errs = append(errs, err)
		}
	}
	errs = append(errs, h.stopMissing(ctx, sections))
	var fresh []*unit
	for _, name := range h.names() {
		section, wanted := sections[name]
		if !wanted {
			continue
		}
		u := h.units[name]
		v, _ := u.look()
		switch {
		case v.state == supervise.Isolated:
			u.setConfig(config{section: section, generation: h.generation})
		case v.state == supervise.Starting && sameSection(u.currentConfig().section, section):
			errs = append(errs, u.ready(ctx)) // on its way already
		case v.process == nil: // not running, or not able to: start over
			fresh = append(fresh, u)
		case !sameSection(u.currentConfig().section, section):
			running, err := h.change(ctx, u, section)
			if err != nil {
				errs = append(errs, fmt.Errorf("apply to %s: %w", name, err))
			} else if !running {
				fresh = append(fresh, u)
			}
		}
	}
	errs = append(errs, h.startAll(ctx, fresh, sections))
	return errors.Join(errs...)
}

// stopMissing stops the plugins that have no section and waits until they have let go.
func (h *Host) stopMissing(ctx context.Context, sections map[string]Section) error {
	var going []*unit
	for _, u := range h.units {
		v, _ := u.look()
		if _, wanted := sections[u.name]; !wanted && !v.stopped() {
			u.input(supervise.Disable, "not enabled in the configuration")
			going = append(going, u)
		}
	}
	var errs []error
	for _, u := range going {
		if _, err := u.settled(ctx, view.stopped); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", u.name, err))
		}
	}
	return errors.Join(errs...)
}

// change brings a running plugin to a new section, and says when it does not run any more. A process that dies meanwhile
// may have died of something else, so the next one is asked.
func (h *Host) change(ctx context.Context, u *unit, section Section) (running bool, err error) {
	for try := 1; ; try++ {
		v, _ := u.look()
		if v.process == nil {
			return false, nil
		}
		if err = h.offer(ctx, u, v.process, section); !broke(err) || try == 2 || !v.process.gone(ctx) {
			return true, err
		}
		if _, err := u.changedFrom(ctx, v.process); err != nil {
			return true, err
		}
		_ = u.ready(ctx) // else it is started over
	}
}

// offer has a process take a new section over, or be replaced by one that has it.
func (h *Host) offer(ctx context.Context, u *unit, p *process, section Section) error {
	next := config{section: section, generation: h.generation}
	val, err := validate(ctx, p, section)
	if err != nil {
		return err
	}
	if err := invalid(u.name, val.Diagnostics); err != nil {
		return err
	}
	if err := h.claimable(ctx, u, val.Wants); err != nil {
		return err
	}
	old := u.currentConfig()
	restart := !sameGrant(old.section.Grant, section.Grant)
	if !restart {
		was, err := validate(ctx, p, old.section)
		restart = err != nil || !sameThings(was.Wants, val.Wants)
	}
	if !restart {
		cctx, cancel := context.WithTimeout(ctx, configureTimeout)
		r, err := p.rpc.Configure(cctx, next.document())
		cancel()
		if err != nil {
			return wire.Plain(err)
		}
		switch r.GetOutcome() {
		case pluginpb.ConfigureReply_REJECTED:
			return rejected(u.name, r.GetDiagnostics())
		case pluginpb.ConfigureReply_NEEDS_RESTART:
			restart = true
		}
	}
	if restart {
		u.setConfig(next)
		return h.Restart(ctx, u.name)
	}
	return u.took(ctx, p, next)
}

// took notes that a process has taken a new section over. Others may have the old one: the spare that stands by, or the
// one that serves already because this process has died since.
func (u *unit) took(ctx context.Context, p *process, next config) error {
	u.setConfig(next)
	return u.do(ctx, func(now time.Time) {
		if u.spare != nil {
			u.spare.cancel()
		}
		if a := u.active; a != nil && a.current() != p && a.config.generation != next.generation {
			u.step(now, supervise.Input{Kind: supervise.Restart})
		}
	})
}

// startAll starts plugins beside each other. They wait for each other once, before Start,
// so that a disk or NIC that two of them want goes to neither.
func (h *Host) startAll(ctx context.Context, units []*unit, sections map[string]Section) error {
	gates, failed := make([]*gate, len(units)), make([]error, len(units))
	for i, u := range units {
		gates[i] = newGate()
		u.setConfig(config{section: sections[u.name], generation: h.generation, gate: gates[i]})
		failed[i] = u.do(ctx, func(now time.Time) {
			trying := u.active != nil // with an earlier configuration
			u.step(now, supervise.Input{Kind: supervise.Enable})
			if trying {
				u.step(now, supervise.Input{Kind: supervise.Restart})
			}
		})
	}
	var claims []claim
	for _, u := range h.units {
		if !slices.Contains(units, u) {
			claims = append(claims, u.claims()...)
		}
	}
	for i, u := range units {
		if failed[i] != nil { // could not even be told
			continue
		}
		wants, err := u.prepared(ctx, gates[i])
		if err != nil {
			failed[i] = err
			continue
		}
		for _, w := range wants {
			id, err := h.identify(ctx, u, w)
			if err != nil && w.GetOptional() {
				continue
			}
			if err != nil {
				failed[i] = errors.Join(failed[i], fmt.Errorf("%s: %w", w.GetPath(), err))
				continue
			}
			claims = append(claims, claim{plugin: u.name, id: id, path: w.GetPath()})
		}
	}
	for _, c := range conflicts(claims) {
		i := slices.IndexFunc(units, func(u *unit) bool { return u.name == c.Wants })
		if i >= 0 {
			failed[i] = errors.Join(failed[i], c)
		}
	}
	var errs []error
	for i, u := range units {
		u.setConfig(config{section: sections[u.name], generation: h.generation})
		gates[i].release(h.against(ctx, failed[i]))
		if failed[i] != nil {
			errs = append(errs, fmt.Errorf("start %s: %w", u.name, failed[i]))
		}
	}
	for i, u := range units {
		// Also those that have failed are waited for: Status tells the outcome afterwards.
		if err := u.ready(ctx); err != nil && failed[i] == nil {
			errs = append(errs, fmt.Errorf("start: %w", err))
		}
	}
	return errors.Join(errs...)
}

// against is what keeps a plugin from passing its gate. That nobody waits for it any more is no reason: it goes on by
// itself, and what it wants is compared once more when it claims it.
func (h *Host) against(ctx context.Context, failed error) error {
	if end := ctx.Err(); end != nil && errors.Is(failed, end) && h.ending.Err() == nil {
		return nil
	}
	return failed
}

// prepared waits until the plugin waits at its gate, or has failed on the way there.
func (u *unit) prepared(ctx context.Context, g *gate) ([]*pluginpb.Want, error) {
	for {
		v, changed := u.look()
		if v.state == supervise.Failed || v.stopped() {
			return nil, fmt.Errorf("%s: %s", v.state, v.message)
		}
		select {
		case wants := <-g.prepared:
			return wants, nil
		case <-changed:
		case <-u.done:
			return nil, errShutdown
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ready waits until the plugin serves; that it has failed instead is the error.
func (u *unit) ready(ctx context.Context) error {
	v, err := u.settled(ctx, func(v view) bool {
		return v.state.Serving() || v.state == supervise.Failed || v.stopped()
	})
	switch {
	case err != nil:
		return fmt.Errorf("wait for %s, which is %s: %w", u.name, v.state, err)
	case !v.state.Serving():
		return fmt.Errorf("%s is %s: %s", u.name, v.state, v.message)
	}
	return nil
}

// do runs f in the unit's goroutine and waits for it.
func (u *unit) do(ctx context.Context, f func(now time.Time)) error {
	done := make(chan struct{})
	if !u.post(func(now time.Time) { f(now); close(done) }) {
		return errShutdown
	}
	select {
	case <-done:
		return nil
	case <-u.done:
		return errShutdown
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (u *unit) setConfig(c config) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.config = c
}

func sameSection(a, b Section) bool {
	return bytes.Equal(a.JSON, b.JSON) && sameGrant(a.Grant, b.Grant)
}

func sameGrant(a, b Grant) bool {
	return a.Memory == b.Memory && a.PIDs == b.PIDs &&
		(a.Capabilities == nil) == (b.Capabilities == nil) && // nil is all, empty is none
		slices.Equal(sorted(a.Capabilities), sorted(b.Capabilities))
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	sort.Strings(s)
	return s
}
