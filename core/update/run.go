package update

import (
	"context"
	"time"

	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/verdict"
)

const (
	tick = time.Second
	// keepEvery is how often the running time of an image that is to settle is made durable.
	keepEvery = 10 * time.Minute
)

// Run watches the health of this boot and settles what is due, until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	if m.blocked != nil {
		m.giveUp(ctx)
		return
	}
	m.load(ctx)
	front, err := m.o.Firmware.Front(m.places())
	if err != nil {
		m.o.Log.Warn("read boot order", "err", err)
	}
	h := newHealth(m.Times(), front != "" && front != m.o.Report.Slot, m.o.Clock())
	t := time.NewTicker(tick)
	defer t.Stop()
	last := m.o.Clock()
	for {
		now := m.o.Clock()
		m.step(ctx, h, front, now-last)
		last = now
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// giveUp ends the trial of a slot whose image is isolated: it can never get healthy, and the one before may be
// released. Any other isolated box stays as it is.
func (m *Manager) giveUp(ctx context.Context) {
	trial, err := m.o.Firmware.OnTrial()
	if err != nil {
		m.o.Log.Warn("read boot entries", "err", err)
	}
	if !trial || m.o.Report.Box.Decision == verdict.Released {
		return
	}
	deadline := m.Times().Deadline
	m.o.Say("this slot is on trial and isolated: back to the other one in %s", deadline)
	t := time.NewTimer(deadline)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
		m.o.Restart("the trial of an isolated image is over")
	}
}

// step is one tick; front is the slot that was first in the order when the boot began.
func (m *Manager) step(ctx context.Context, h *health, front string, passed time.Duration) {
	running := m.o.Report.Slot
	h.times = m.Times()
	switch h.step(m.o.Clock(), m.ready()) {
	case healthy:
		m.commit(ctx, front)
	case failed:
		m.o.Say("slot %s was not healthy within %s: back to slot %s", running, h.times.Deadline, slot.Other(running))
		m.o.Restart("the trial of slot " + running + " failed")
	case wait:
	}
	m.settleStep(ctx, passed)
}

// ready is false in an image that is built to be never healthy, which tests what the box does about one.
func (m *Manager) ready() bool { return m.o.Report.Fault != "unhealthy" && m.o.Ready() }

// load takes up what the run before left.
func (m *Manager) load(ctx context.Context) {
	boots, err := m.o.Firmware.Count()
	if err != nil {
		m.o.Log.Warn("read boot count", "err", err)
	}
	s := new(settling)
	found := m.get(ctx, keySettle, s) && s.Slot == m.o.Report.Slot && s.Digest == m.image(s.Slot).Digest
	next, err := m.o.Firmware.Trying(m.places())
	if err != nil {
		m.o.Log.Warn("read what boots next", "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boots, m.planned = boots, next != "" && next != m.o.Report.Slot
	if found {
		m.settle = s
	}
}

// image is a slot as init found it.
func (m *Manager) image(name string) verdict.Image {
	for _, i := range m.o.Report.Images {
		if i.Slot == name {
			return i
		}
	}
	return verdict.Image{Slot: name}
}

// commit is for a boot that is healthy: its slot goes first, the count ends, V rises as far as both slots allow, and
// an update that was on trial begins its time of proof.
func (m *Manager) commit(ctx context.Context, before string) {
	r := m.o.Report
	m.choice.Lock()
	if err := m.o.Firmware.Commit(m.places(), r.Slot, m.bad()); err != nil {
		// Without the order the next boot may be of the other slot, without the count the box goes there after some boots.
		m.o.Say("the firmware does not keep that slot %s is healthy: %v", r.Slot, err)
	}
	m.mu.Lock()
	m.healthy, m.boots = true, 0
	planned := m.planned
	m.mu.Unlock()
	m.o.Say("healthy: slot %s, image %s, security version %d", r.Slot, r.Image, r.SecurityVersion)
	// What is kept when another boot is planned is that one's trial.
	if t := new(trial); !planned && m.get(ctx, keyTrial, t) {
		if err := m.put(ctx, keyTrial, nil); err != nil {
			m.o.Log.Warn("forget the trial", "err", err)
		}
		if !t.Back && t.Slot == r.Slot && t.Slot != before && t.Digest == m.image(r.Slot).Digest {
			m.prove(ctx, &settling{Slot: t.Slot, Digest: t.Digest, Now: t.Revokes})
		}
	}
	m.choice.Unlock()
	// Slots that were written since the boot are the next boot's business.
	m.mu.Lock()
	quiet := len(m.written) == 0
	m.mu.Unlock()
	if quiet {
		if err := m.raise(ctx, lower(r.Images)); err != nil {
			m.o.Say("%v", err)
		}
	}
}

func (m *Manager) prove(ctx context.Context, s *settling) {
	m.mu.Lock()
	m.settle = s
	m.mu.Unlock()
	if err := m.put(ctx, keySettle, s); err != nil {
		m.o.Log.Warn("note the time of proof", "err", err)
	}
}

// settleStep counts the running time of an image that is to settle, and settles it when it is due.
func (m *Manager) settleStep(ctx context.Context, passed time.Duration) {
	m.mu.Lock()
	s := m.settle
	if s == nil || !m.healthy {
		m.mu.Unlock()
		return
	}
	kept := s.Ran / keepEvery
	s.Ran += passed
	// What an operator has put into the other slot for the next boot, or wants to go back to, stays there.
	due, keep, copied := s.left(m.o.Times.Settle) <= 0 && !m.planned, s.Ran/keepEvery != kept, *s
	if due {
		m.settle = nil // once a boot, whatever comes of it
	}
	m.mu.Unlock()
	if keep && !due {
		if err := m.put(ctx, keySettle, copied); err != nil {
			m.o.Log.Warn("note the time of proof", "err", err)
		}
	}
	if !due {
		return
	}
	m.o.Say("settling: slot %s gets the image of slot %s", slot.Other(s.Slot), s.Slot)
	r, err := m.Settle(ctx, "settle", func(string, int64, int64) {})
	if err != nil {
		m.o.Say("settle: %v; the next boot tries again", err)
		return
	}
	m.o.Say("settled: attempt %d, %s written at %s", r.Attempt, r.Slot, speed(r.Bytes, r.Write+r.Read))
}

// Ending takes the boot that an operator ends in order out of the count: only boots that nobody could end count.
func (m *Manager) Ending() {
	if m.blocked != nil {
		return
	}
	n, err := m.o.Firmware.Count()
	if err == nil && n > 0 {
		err = m.o.Firmware.SetCount(n - 1)
	}
	if err != nil {
		m.o.Log.Warn("take this boot out of the count", "err", err)
	}
}
