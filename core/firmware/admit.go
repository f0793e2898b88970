package firmware

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/inventory"
	"github.com/ratchetos/ratchet/hw"
)

// ErrAdmitted says that a device needs no admission.
var ErrAdmitted = errors.New("the device is admitted already")

// Admission is a device that the next boot lets in.
type Admission struct {
	ID      string
	Attempt uint64
	Content ledger.Content
}

// Admit opens the attempt that lets a new device in with the firmware it has now. The device is bound
// in quarantine to be read and isolated again: the next boot reads it back once more, before anything
// else runs, and releases it.
func (m *Manager) Admit(ctx context.Context, selector, signer string) (a Admission, err error) {
	if !m.running.TryLock() {
		return a, ErrBusy
	}
	defer m.running.Unlock()
	d, err := m.Devices.Resolve(selector)
	if err != nil {
		return a, err
	}
	if d.Boot || d.Verdict.Decision == verdict.Released {
		return a, fmt.Errorf("admit %s: %w", d.ID, ErrAdmitted)
	}
	j, err := m.Attempts.Judge(ctx)
	switch {
	case err != nil:
		return a, err
	case !j.Released():
		return a, fmt.Errorf("admit %s: %w: %s; next: %s", d.ID, inventory.ErrNotReleased, j.Reason, j.Next)
	case known(j, d.ID) != nil:
		return a, fmt.Errorf("admit %s: %w, but isolated: %s; next: ratchetctl firmware recover %s", d.ID, ErrAdmitted, d.Verdict.Reason, d.ID)
	case len(j.Ledger.Devices) >= ledger.MaxDevices:
		return a, fmt.Errorf("admit %s: the ledger holds %d devices, as many as it can", d.ID, ledger.MaxDevices)
	}
	seen, err := m.read(ctx, d)
	if err != nil {
		return a, fmt.Errorf("admit %s: %w", d.ID, err)
	}
	if known(j, seen.ID) != nil {
		return a, fmt.Errorf("admit %s: %w as %s; reboot to have it released", d.ID, ErrAdmitted, seen.ID)
	}
	a = Admission{ID: seen.ID, Content: ledger.OfFirmware(seen.Firmware, seen.FirmwareDigest)}
	for _, i := range j.Open {
		if i.Target == ledger.DeviceTarget(a.ID) && i.From.Strength == ledger.StrengthAbsent && i.To.Matches(a.Content) {
			a.Attempt = i.Number // a second time changes nothing and is not counted
			return a, nil
		}
	}
	at, err := m.Attempts.Open(ctx, ledger.Intent{Target: ledger.DeviceTarget(a.ID), To: a.Content, Signer: signer})
	if err != nil {
		return Admission{}, err
	}
	a.Attempt = at.Number
	if j, err := m.Attempts.Judge(ctx); err == nil {
		o := verdict.Observed{ID: seen.ID, Place: seen.Place, Kind: string(seen.Kind), Serial: seen.Serial, Content: a.Content}
		m.Devices.Judge(a.ID, verdict.Returned(j, o))
	}
	return a, nil
}

// read binds a device in quarantine for as long as it takes to read it.
func (m *Manager) read(ctx context.Context, d inventory.Device) (seen hw.Device, err error) {
	devices, err := m.Devices.Devices()
	if err != nil {
		return seen, err
	}
	bound, isolate, err := m.bind(ctx, d.Place, devices)
	if err != nil {
		return seen, err
	}
	defer func() { err = errors.Join(err, isolate()) }()
	var names []string
	for _, b := range bound {
		names = append(names, b.ID)
		if b.ID == d.ID || b.Place == d.Place && len(bound) == 1 {
			seen = b
		}
	}
	switch {
	case seen.ID == "" && len(bound) > 1:
		return seen, fmt.Errorf("there are several devices at %s, name one of them: %v", d.Place, names)
	case seen.ID == "":
		return seen, fmt.Errorf("there is no device at %s any more, but %v", d.Place, names)
	case seen.FirmwareErr != "":
		return seen, fmt.Errorf("its firmware cannot be read: %s", seen.FirmwareErr)
	}
	return seen, nil
}
