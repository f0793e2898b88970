package libvirt

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/domxml"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/rpc"
)

// rearm starts the destination anew for a transfer of another kind.
func (p *Port) rearm(ctx context.Context, m hypervisor.Move, a *arrival, want armament) error {
	dom, err := p.active(ctx, m.VM)
	if err == nil {
		err = p.discard(ctx, m, dom)
	}
	if err != nil && !gone(err) {
		return err
	}
	return p.receive(ctx, m, a, want)
}

// arrivedWell holds the finished destination against the move: libvirt's word that it is complete is not taken for it.
func (p *Port) arrivedWell(ctx context.Context, dom remote.Domain, m hypervisor.Move, paused bool) error {
	state, word, err := p.state(ctx, dom)
	if err != nil {
		return err
	}
	if paused != (state == hypervisor.Paused) {
		return fmt.Errorf("the destination is %s (%s)", state, word)
	}
	now, _, err := p.describe(ctx, dom)
	if err != nil {
		return err
	}
	if err := domxml.SameHardware(now, m.Shape); err != nil || paused {
		return err
	}
	k := markOf(m)
	k.Arrived = true
	return p.setMark(ctx, dom, k)
}

// Finish implements hypervisor.Port.
func (p *Port) Finish(ctx context.Context, m hypervisor.Move, moved bool) error {
	dom, err := p.lookup(ctx, m.VM)
	switch {
	case gone(err) && !moved:
		p.moves.arrived(m.ID, p.conf.Name)
		return nil
	case err == nil && moved:
		err = p.run(ctx, m, dom)
	case err == nil:
		err = p.discard(ctx, m, dom)
	}
	if err != nil {
		return fmt.Errorf("finish move of %s at %s: %w", m.VM, p.conf.Name, err)
	}
	return nil
}

// run lets a destination run, for the first time.
func (p *Port) run(ctx context.Context, m hypervisor.Move, dom remote.Domain) error {
	k, err := p.fenced(ctx, dom, m)
	if err != nil {
		return err
	}
	if k.ID != m.ID || k.To != p.conf.Name {
		return fmt.Errorf("it is not the destination of move %s", m.ID)
	}
	state, word, err := p.state(ctx, dom)
	if err != nil {
		return err
	}
	if x := p.moves.transfer(m.ID); x != nil && x.fetches() && state != hypervisor.Running {
		return p.runEarly(ctx, m, dom, x)
	}
	switch state {
	case hypervisor.Running:
		p.moves.arrived(m.ID, p.conf.Name)
		return nil
	case hypervisor.Paused:
	default:
		return fmt.Errorf("it is %s (%s): its memory is not all here", state, word)
	}
	// The mark comes first: from now on nobody may discard it, whatever becomes of us.
	k.Arrived, k.Epoch = true, m.Epoch
	if err := p.setMark(ctx, dom, k); err != nil {
		return err
	}
	if err := p.conn.Resume(ctx, dom); err != nil {
		return err
	}
	p.moves.arrived(m.ID, p.conf.Name)
	return p.redefine(ctx, m, dom)
}

// pollEvery is how often something is asked for that libvirt has no event for.
const pollEvery = 20 * time.Millisecond

// runEarly lets a destination run that still has to fetch memory. Finish3 returns when it has all of it.
func (p *Port) runEarly(ctx context.Context, m hypervisor.Move, dom remote.Domain, x *transfer) error {
	ended := x.finish(false)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return x.endErr
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if state, _, err := p.state(ctx, dom); err == nil && state == hypervisor.Running {
			return nil
		}
	}
}

// discard ends a destination that has not run. An ID that is not the move's is somebody else's VM.
func (p *Port) discard(ctx context.Context, m hypervisor.Move, dom remote.Domain) error {
	k, err := p.fenced(ctx, dom, m)
	if gone(err) {
		p.moves.arrived(m.ID, p.conf.Name)
		return nil
	}
	if err != nil {
		return err
	}
	if k.ID != m.ID || k.To != p.conf.Name || k.Arrived && (dom.ID < 0 || !p.dying(ctx, m.VM)) {
		return fmt.Errorf("it is not the destination of move %s, or lives here already", m.ID)
	}
	if dom.ID >= 0 {
		state, _, err := p.state(ctx, dom)
		if err == nil && state == hypervisor.Running {
			return fmt.Errorf("it runs: it is not discarded")
		}
		if err := p.conn.Destroy(ctx, dom); err != nil && !gone(err) && !rpc.IsCode(err, rpc.CodeOperationInvalid) {
			return err
		}
	}
	if err := p.forget(ctx, dom); err != nil {
		return err
	}
	p.moves.arrived(m.ID, p.conf.Name)
	return nil
}

// dyingLimit is how soon libvirt has noticed that a QEMU is gone.
const dyingLimit = time.Second

// dying tells whether a VM that seems to live here is about not to: libvirt shows one for a moment whose QEMU has ended.
func (p *Port) dying(ctx context.Context, vm string) bool {
	ctx, cancel := context.WithTimeout(ctx, dyingLimit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if _, err := p.active(ctx, vm); gone(err) {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// forget undefines a domain that is defined.
func (p *Port) forget(ctx context.Context, dom remote.Domain) error {
	persistent, err := p.conn.Persistent(ctx, dom)
	if err == nil && persistent {
		err = p.conn.Undefine(ctx, dom)
	}
	if gone(err) {
		return nil
	}
	return err
}

// redefine gives a defined VM for its next start what this host has: its definition came with the source's.
func (p *Port) redefine(ctx context.Context, m hypervisor.Move, dom remote.Domain) error {
	persistent, err := p.conn.Persistent(ctx, dom)
	if err != nil || !persistent {
		return err
	}
	text, err := p.conn.XML(ctx, dom, remote.XMLSecure|remote.XMLInactive)
	if err != nil {
		return err
	}
	doc, err := domxml.Parse(text)
	if err != nil {
		return err
	}
	if !domxml.Reattach(doc, m.Shape, p.conf.Networks) {
		return nil // its next start is of another shape already
	}
	_, err = p.conn.Define(ctx, doc.String())
	return err
}

// Confirm implements hypervisor.Port.
func (p *Port) Confirm(ctx context.Context, m hypervisor.Move, moved bool) error {
	dom, err := p.lookup(ctx, m.VM)
	switch {
	case gone(err) && moved:
		p.moves.departed(m.ID, p.conf.Name)
		return nil
	case err == nil && moved:
		err = p.end(ctx, m, dom)
	case err == nil:
		err = p.resume(ctx, m, p.moves.departure(m.ID, p.conf.Name))
	}
	if err != nil {
		return fmt.Errorf("confirm move of %s at %s: %w", m.VM, p.conf.Name, err)
	}
	return nil
}

// end ends a source whose VM runs elsewhere.
func (p *Port) end(ctx context.Context, m hypervisor.Move, dom remote.Domain) error {
	k, err := p.fenced(ctx, dom, m)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if k.ID != m.ID || k.From != p.conf.Name {
		return fmt.Errorf("it is not the source of move %s", m.ID)
	}
	state := hypervisor.Absent // defined only: ended before, and not forgotten
	if dom.ID >= 0 {
		if state, _, err = p.state(ctx, dom); err != nil {
			return err
		}
	}
	d := p.moves.departure(m.ID, p.conf.Name)
	switch {
	case state != hypervisor.Moved && state != hypervisor.Absent:
		return fmt.Errorf("it is %s here, it has not moved away", state)
	case d != nil && d.x != nil && d.x.isComplete():
		err = p.confirm(ctx, d, d.x.finished, false)
	case state == hypervisor.Moved:
		err = p.conn.Destroy(ctx, dom)
	}
	if err != nil && !gone(err) {
		return err
	}
	if err := p.forget(ctx, dom); err != nil {
		return err
	}
	p.moves.departed(m.ID, p.conf.Name)
	return nil
}

// confirm is the fifth phase.
func (p *Port) confirm(ctx context.Context, d *departure, cookie []byte, cancelled bool) error {
	var t ticket
	if err := json.Unmarshal(d.ticket, &t); err != nil {
		return err
	}
	flags := t.Flags
	if d.x != nil {
		flags |= d.x.armed.flags()
	}
	return d.conn.MigrateConfirm(ctx, d.dom, nil, cookie, flags, cancelled)
}

// resume lets the source run as before the move; d is nil when another manager began it.
func (p *Port) resume(ctx context.Context, m hypervisor.Move, d *departure) error {
	dom, err := p.active(ctx, m.VM)
	if err != nil {
		return err
	}
	k, err := p.fenced(ctx, dom, m)
	if err != nil {
		return err
	}
	begun := k.ID == m.ID && k.From == p.conf.Name && !k.Arrived
	if d != nil {
		if d.x != nil && !d.x.over() {
			return d.x.undo(ctx)
		}
		// A transfer that failed has ended its job itself: that there is none any more is what is wanted.
		if err := p.confirm(ctx, d, nil, true); err != nil && !rpc.IsCode(err, rpc.CodeOperationInvalid) {
			return err
		}
		p.moves.departed(m.ID, p.conf.Name)
	} else if begun {
		if err := p.orphaned(ctx, dom); err != nil {
			return err
		}
	}
	state, word, err := p.state(ctx, dom)
	switch {
	case err != nil:
		return err
	case state == hypervisor.Running:
		return nil
	case !begun:
		return fmt.Errorf("it is %s (%s), and not by move %s", state, word, m.ID)
	case state != hypervisor.Moved && state != hypervisor.Paused:
		return fmt.Errorf("it is %s (%s), which a move does not make of it", state, word)
	}
	if k.Epoch < m.Epoch {
		k.Epoch = m.Epoch
		if err := p.setMark(ctx, dom, k); err != nil {
			return err
		}
	}
	return p.conn.Resume(ctx, dom)
}
