package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// What survives a restart, in the state store.
const (
	space     = "update"
	keyTrial  = "trial"
	keySettle = "settle"
)

// trial is the slot that an update has the firmware try.
type trial struct {
	Slot    string        `json:"slot"`
	Digest  ledger.Digest `json:"digest"`
	Version string        `json:"version"`
	Revokes bool          `json:"revokes"`
	// Back is set for a rollback: the slot that it leaves is newer and stays.
	Back bool `json:"back,omitempty"`
}

// settling is a healthy image that the other slot is to get.
type settling struct {
	Slot   string        `json:"slot"`
	Digest ledger.Digest `json:"digest"`
	Ran    time.Duration `json:"ran"` // since it was healthy first, while it ran
	Now    bool          `json:"now"` // it revokes the older one
}

func (s *settling) left(settle time.Duration) time.Duration {
	if s.Now {
		return 0
	}
	return settle - s.Ran
}

// Rollback has the firmware try the other slot at the next boot. Errors: ErrBusy, ErrBlocked, ErrNothing.
func (m *Manager) Rollback(ctx context.Context, restart bool) (Result, error) {
	done, err := m.begin()
	if err != nil {
		return Result{}, err
	}
	defer done()
	target := slot.Other(m.o.Report.Slot)
	c, err := m.holds(ctx, target)
	switch {
	case err != nil:
		return Result{}, err
	case c.Strength == ledger.StrengthAbsent || m.bad()[target]:
		return Result{}, fmt.Errorf("%w: slot %s holds no good image", ErrNothing, target)
	case c.SecurityVersion() < uint64(m.floor()) && c.SecurityVersion() > 0:
		return Result{}, fmt.Errorf("%w: slot %s has security version %d, this box requires %d", ErrNothing, target, c.SecurityVersion(), m.floor())
	}
	if _, ok := m.same(target, c); !ok {
		return Result{}, fmt.Errorf("%w: slot %s does not read back as the image that it should hold", ErrNothing, target)
	}
	if err := m.try(ctx, target, &trial{Slot: target, Digest: c.Digest, Back: true}); err != nil {
		return Result{}, err
	}
	r := Result{Slot: target, Digest: c.Digest, SecurityVersion: uint(c.SecurityVersion()), Restart: restart}
	m.remember(&r)
	if restart {
		m.o.Restart("rollback to slot " + target)
	}
	return r, nil
}

// Settle copies the running image to the other slot, as one more attempt, and raises V to its security version: from
// then on no older image runs here. Errors are those of Apply; a box that is not healthy yet is ErrBlocked.
func (m *Manager) Settle(ctx context.Context, signer string, progress Progress) (r Result, err error) {
	done, err := m.begin()
	if err != nil {
		return r, err
	}
	defer done()
	m.mu.Lock()
	healthy := m.healthy
	m.mu.Unlock()
	if !healthy {
		return r, fmt.Errorf("%w now: it has not been healthy in this boot; see: ratchetctl status", ErrBlocked)
	}
	defer func() {
		if err != nil {
			r.Problem = err.Error()
		}
		m.remember(&r)
	}()
	running, target := m.o.Report.Slot, slot.Other(m.o.Report.Slot)
	what, err := m.holds(ctx, running)
	if err != nil {
		return r, err
	}
	if what.Strength == ledger.StrengthAbsent {
		return r, fmt.Errorf("%w: slot %s, which runs, does not read back as an image; apply an update instead", ErrBlocked, running)
	}
	d, err := m.o.Open(m.disk(running).Node, false)
	if err != nil {
		return r, err
	}
	defer d.Close()
	// Before the attempt: a slot that has gone bad since the boot must not be copied over a good one.
	if i, ok := m.same(running, what); !ok {
		return r, fmt.Errorf("%w: slot %s, which runs, reads back as %x", ErrBlocked, running, i.SHA256[:6])
	}
	image, _, err := esp.Find(d, d.Size())
	if err != nil {
		return r, err
	}
	r = Result{
		Version: m.o.Report.Image, SecurityVersion: m.o.Report.SecurityVersion, Slot: target, Digest: what.Digest, Bytes: image.Size(),
	}
	// What runs here knows its own security version, whatever the ledger was told.
	to := ledger.OfImage(what.Digest, uint64(m.o.Report.SecurityVersion))
	if err := m.fill(ctx, target, to, image, signer, progress, &r); err != nil {
		return r, err
	}
	ctx = context.WithoutCancel(ctx)
	m.mu.Lock()
	m.settle = nil
	m.mu.Unlock()
	m.choice.Lock()
	err = errors.Join(m.put(ctx, keySettle, nil), m.o.Firmware.Commit(m.places(), running, m.bad()))
	m.choice.Unlock()
	if err != nil {
		return r, err
	}
	return r, m.raise(ctx, m.o.Report.SecurityVersion)
}

// raise makes the TPM refuse what is older than both slots.
func (m *Manager) raise(ctx context.Context, floor uint) error {
	if floor <= m.floor() {
		return nil
	}
	if len(m.o.CoreKey) == 0 {
		m.o.Log.Warn("the security version cannot be raised: this boot has no key of core", "to", floor)
		return nil
	}
	if err := m.o.Attempts.RaiseV(ctx, m.o.CoreKey, floor); err != nil {
		return fmt.Errorf("raise the security version to %d: %w", floor, err)
	}
	m.mu.Lock()
	m.raised = floor
	m.mu.Unlock()
	m.o.Say("security version %d: images below it do not run here any more", floor)
	return nil
}

// floor is the lowest security version that the TPM lets run.
func (m *Manager) floor() uint {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(m.o.Report.TPM.Floor, m.raised)
}

// lower is the lower security version of the two slots: what V may be raised to. A bad slot and one that an open
// attempt may have changed count as 0.
func lower(images []verdict.Image) uint {
	low := uint64(1 << 32)
	for _, i := range images {
		if i.Decision != verdict.Released {
			return 0
		}
		low = min(low, i.Version)
	}
	if len(images) != len(slot.Names) {
		return 0
	}
	return uint(low)
}

// put keeps v over restarts; nil forgets it. Without STATE nothing is kept.
func (m *Manager) put(ctx context.Context, key string, v any) error {
	if m.o.Store == nil {
		return nil
	}
	if v == nil {
		return m.o.Store.Delete(ctx, space, key)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return m.o.Store.Put(ctx, space, key, b)
}

// get reads what put kept; false when there is none that can be read.
func (m *Manager) get(ctx context.Context, key string, v any) bool {
	if m.o.Store == nil {
		return false
	}
	b, found, err := m.o.Store.Get(ctx, space, key)
	return err == nil && found && json.Unmarshal(b, v) == nil
}
