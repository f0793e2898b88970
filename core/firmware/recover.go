package firmware

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/inventory"
	"github.com/ratchetos/ratchet/hw"
	fw "github.com/ratchetos/ratchet/hw/firmware"
)

// Recover brings an isolated device back to a firmware that is known: that of the package, or with a nil
// package what the ledger or the open attempt says, if a slot of the device still holds it. selector
// is the device's id or the place it is at.
func (m *Manager) Recover(ctx context.Context, selector string, p *Package, signer string, progress func(fw.Progress)) (r Result, err error) {
	if !m.running.TryLock() {
		return Result{}, ErrBusy
	}
	defer m.running.Unlock()
	j, err := m.Attempts.Judge(ctx)
	if err != nil {
		return Result{}, err
	}
	if !j.Released() {
		return Result{}, fmt.Errorf("recover %s: the box itself has to be recovered first: %s; next: %s", selector, j.Reason, j.Next)
	}
	was := known(j, selector)
	if was == nil {
		return Result{}, fmt.Errorf("recover %s: %w: the ledger knows no such device; see: ratchetctl hw list", selector, ErrNothing)
	}
	u, release, err := m.quarantine(ctx, *was)
	if err != nil {
		return Result{}, fmt.Errorf("recover %s: %w", was.ID, err)
	}
	defer func() { err = errors.Join(err, release()) }()
	u.from, u.signer = was.Content, signer
	if p == nil {
		return u.back(ctx, j)
	}
	if err := fits(p.Manifest, u.device); err != nil {
		return Result{}, err
	}
	// A device that is half written cannot be read back; what it is to become is known all the same.
	now, components, lookErr := look(ctx, u.firmware)
	if lookErr != nil {
		now = fw.Reading{Strength: strengthOf(was.Content)}
		components = remembered(was.Content.Version, p.Manifest.Versions)
	}
	if u.to, err = expected(p.Manifest, now, components); err != nil {
		return Result{}, err
	}
	store := func(ctx context.Context) error { return u.firmware.Flash(ctx, p.Image, p.Image.Size(), progress) }
	if lookErr == nil && u.to.Strength > ledger.StrengthNone && u.to.Matches(content(now)) {
		// It runs what a signed package holds: that is proof enough to say so in an attempt.
		return u.accept(ctx, now)
	}
	return u.run(ctx, store)
}

func strengthOf(c ledger.Content) fw.Strength {
	switch c.Strength {
	case ledger.StrengthDigest:
		return fw.Digest
	case ledger.StrengthVersion:
		return fw.Version
	}
	return fw.None
}

// quarantine opens the firmware of a device that is isolated.
func (m *Manager) quarantine(ctx context.Context, was ledger.Device) (u *update, release func() error, err error) {
	devices, err := m.Devices.Devices()
	if err != nil {
		return nil, nil, err
	}
	for _, d := range devices {
		if d.ID == was.ID && inUse(d) {
			return nil, nil, fmt.Errorf("%w: the device is released; to update it: ratchetctl firmware flash", ErrNothing)
		}
	}
	bound, isolate, err := m.bind(ctx, was.Place, devices)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range bound {
		if d.ID != was.ID {
			continue
		}
		f, err := m.Hardware.Firmware(d)
		if err != nil {
			return nil, nil, errors.Join(err, isolate())
		}
		return &update{Manager: m, device: d, firmware: f}, func() error { return errors.Join(f.Close(), isolate()) }, nil
	}
	return nil, nil, errors.Join(fmt.Errorf("it is not at %s any more", was.Place), isolate())
}

// bind binds the function at a place as init does to read it back: links stay down, disks are not
// opened. isolate takes its driver again unless another device behind it is in use.
func (m *Manager) bind(ctx context.Context, place string, devices []inventory.Device) (bound []hw.Device, isolate func() error, err error) {
	function, _, _ := strings.Cut(place, "/")
	keep := false
	for _, d := range devices {
		at, _, _ := strings.Cut(d.Place, "/")
		keep = keep || at == function && inUse(d)
	}
	isolate = func() error {
		if keep {
			return nil
		}
		return m.Hardware.Isolate(function)
	}
	bound, err = m.Hardware.Bind(ctx, function)
	if err != nil {
		return nil, nil, errors.Join(err, isolate())
	}
	return bound, isolate, nil
}

// inUse says whether a device has a driver because it was released; the boot disk is in use always.
func inUse(d inventory.Device) bool {
	return d.Driver != "" && (d.Boot || d.Verdict.Decision == verdict.Released)
}

// back goes to the slot that holds what the ledger knows, or what an open attempt led from or to.
func (u *update) back(ctx context.Context, j verdict.Judgement) (Result, error) {
	wanted := []ledger.Content{u.from}
	for _, i := range j.Open {
		if i.Target == ledger.DeviceTarget(u.device.ID) {
			wanted = append(wanted, i.From, i.To)
		}
	}
	now, components, err := look(ctx, u.firmware)
	if err == nil && u.from.Matches(content(now)) {
		u.to = u.from
		return u.accept(ctx, now)
	}
	if err != nil { // the slots may be readable even if what runs is not
		if components, err = u.firmware.Inventory(ctx); err != nil {
			return Result{}, fmt.Errorf("recover %s: %w", u.device.ID, err)
		}
	}
	s, slots := u.firmware.(fw.Selecter)
	slot, to, found := find(components, wanted)
	if !slots || !found {
		return Result{}, fmt.Errorf("recover %s: %w: no slot of the device holds %s; give the package with a firmware for it: ratchetctl firmware recover %s FILE",
			u.device.ID, ErrNothing, u.from, u.device.ID)
	}
	u.to = to
	return u.run(ctx, func(ctx context.Context) error { return s.Select(ctx, slot.Name) })
}

// find looks for a slot with one of the wanted contents, the first wanted first.
func find(components []fw.Component, wanted []ledger.Content) (fw.Slot, ledger.Content, bool) {
	for _, want := range wanted {
		for _, c := range components {
			for _, s := range c.Slots {
				has := content(fw.Reading{Version: s.Version, Digest: s.Digest, Strength: fw.Digest})
				if s.Version != "" && want.Strength > ledger.StrengthNone && want.Matches(has) {
					return s, want, true
				}
			}
		}
	}
	return fw.Slot{}, ledger.Content{}, false
}

// accept records in an attempt that the device runs what is known to be good; nothing is flashed.
func (u *update) accept(ctx context.Context, now fw.Reading) (Result, error) {
	number, err := u.open(ctx)
	if err != nil {
		return Result{}, err
	}
	r := u.result(number, Activated, content(now), nil)
	u.record(ctx, r)
	return r, nil
}
