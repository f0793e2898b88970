package firmware

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/inventory"
	"github.com/ratchetos/ratchet/hw"
	fw "github.com/ratchetos/ratchet/hw/firmware"
)

// update is one update on its way.
type update struct {
	*Manager
	device   hw.Device
	firmware fw.Firmware
	from, to ledger.Content
	signer   string
}

// Flash updates a released device. Errors before the attempt is open say what is wrong and changed
// nothing; after that the error comes with a Result whose Attempt counts.
func (m *Manager) Flash(ctx context.Context, selector string, p *Package, signer string, progress func(fw.Progress)) (Result, error) {
	if !m.running.TryLock() {
		return Result{}, ErrBusy
	}
	defer m.running.Unlock()
	d, err := m.Devices.Resolve(selector)
	if err != nil {
		return Result{}, err
	}
	if err := updatable(d); err != nil {
		return Result{}, err
	}
	if err := fits(p.Manifest, d.Device); err != nil {
		return Result{}, err
	}
	f, err := m.Hardware.Firmware(d.Device)
	if err != nil {
		return Result{}, err
	}
	defer f.Close()
	now, components, err := look(ctx, f)
	if err != nil {
		return Result{}, fmt.Errorf("read back %s: %w", d.ID, err)
	}
	u := &update{Manager: m, device: d.Device, firmware: f, signer: signer, from: content(now)}
	if u.to, err = expected(p.Manifest, now, components); err != nil {
		return Result{}, err
	}
	if u.from.Strength > ledger.StrengthNone && u.to.Matches(u.from) {
		return u.result(0, Unchanged, u.from, nil), nil
	}
	waits, err := m.waits(ctx, d.Device)
	if err != nil {
		return Result{}, err
	}
	if waits || now.Next != "" {
		return Result{}, fmt.Errorf("%s: %w", d.ID, ErrPending)
	}
	return u.run(ctx, func(ctx context.Context) error {
		return f.Flash(ctx, p.Image, p.Image.Size(), progress)
	})
}

// waits says whether an update of this run takes effect at the next boot: not every driver tells what is stored.
func (m *Manager) waits(ctx context.Context, device hw.Device) (bool, error) {
	j, err := m.Attempts.Judge(ctx)
	if err != nil {
		return false, err
	}
	devices, err := m.Devices.Devices()
	if err != nil {
		return false, err
	}
	for _, d := range devices {
		if d.ID != device.ID && !hw.SharesFirmware(d.Device, device) {
			continue
		}
		last := m.last(ctx, d.ID)
		open := func(i ledger.Intent) bool { return i.Target == ledger.DeviceTarget(d.ID) && i.Number == last.Attempt }
		if last != nil && last.State == AtReset && slices.ContainsFunc(j.Open, open) {
			return true, nil
		}
	}
	return false, nil
}

// updatable says why a device cannot be updated in this run.
func updatable(d inventory.Device) error {
	switch {
	case d.Boot:
		return fmt.Errorf("%s: %w: it is the boot disk, which nothing reads back before the verdict", d.ID, fw.ErrUnsupported)
	case d.Verdict.Decision == verdict.Isolated:
		return fmt.Errorf("%s: %w: %s; next: ratchetctl firmware recover %s", d.ID, inventory.ErrNotReleased, d.Verdict.Reason, d.ID)
	case d.Verdict.Decision != verdict.Released:
		return fmt.Errorf("%s: %w: %s; next: %s", d.ID, inventory.ErrNotReleased, d.Verdict.Reason, d.Verdict.Next)
	}
	return nil
}

// look reads a device once for everything that an update wants to know.
func look(ctx context.Context, f fw.Firmware) (fw.Reading, []fw.Component, error) {
	now, err := f.ReadBack(ctx)
	if err != nil {
		return now, nil, err
	}
	components, err := f.Inventory(ctx)
	return now, components, err
}

// run opens the attempts and carries the update out. From the first attempt on it does not end with
// the caller: a device must not stay half written because somebody closed a window.
func (u *update) run(ctx context.Context, store func(context.Context) error) (Result, error) {
	number, err := u.open(ctx)
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), u.Limit)
	defer cancel()
	when := fw.Now
	if err = store(ctx); err == nil {
		when, err = u.firmware.Activate(ctx)
	}
	// A read-back that was part of the failure gets time of its own.
	after, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer stop()
	now, readErr := u.firmware.ReadBack(after)
	reads := content(now)
	state := Activated
	switch {
	case err != nil:
		state = Failed
	case when == fw.AtReset:
		state = AtReset
	case readErr != nil:
		state, err = Failed, fmt.Errorf("read back: %w", readErr)
	case !u.to.Matches(reads):
		state, err = Failed, fmt.Errorf("it reads %s afterwards, not %s", reads, u.to)
	}
	u.judge(after, now, readErr)
	r := u.result(number, state, reads, err)
	r.Problem = problem(err, readErr)
	u.record(after, r)
	if err != nil {
		return r, fmt.Errorf("update %s: attempt %d counts and the next boot reads the device back: %w", u.device.ID, number, err)
	}
	return r, nil
}

func problem(errs ...error) string {
	if err := errors.Join(errs...); err != nil {
		return err.Error()
	}
	return ""
}

// open opens the attempt of the device and of every admitted device that shares its firmware; the last
// number is the device's own.
func (u *update) open(ctx context.Context) (number uint64, err error) {
	j, err := u.Attempts.Judge(ctx)
	if err != nil {
		return 0, err
	}
	devices, err := u.Devices.Devices()
	if err != nil {
		return 0, err
	}
	var targets []string
	for _, d := range devices {
		if d.ID != u.device.ID && hw.SharesFirmware(d.Device, u.device) && known(j, d.ID) != nil {
			targets = append(targets, d.ID)
		}
	}
	for _, id := range append(targets, u.device.ID) {
		a, err := u.Attempts.Open(ctx, ledger.Intent{Target: ledger.DeviceTarget(id), From: u.from, To: u.to, Signer: u.signer})
		if err != nil {
			return 0, err
		}
		number = a.Number
	}
	return number, nil
}

// known finds a device in the ledger that E vouches for.
func known(j verdict.Judgement, id string) *ledger.Device {
	if j.Ledger == nil {
		return nil
	}
	for _, d := range j.Ledger.Devices {
		if d.ID == id || d.Place == id {
			return &d
		}
	}
	return nil
}

// judge takes a device out of use that is neither what the attempt led from nor to: the next boot
// would do the same.
func (u *update) judge(ctx context.Context, now fw.Reading, readErr error) {
	j, err := u.Attempts.Judge(ctx)
	if err != nil {
		return // nothing is known against it; the next boot will say
	}
	if v := verdict.Returned(j, observed(u.device, now, readErr)); v.Decision != verdict.Released {
		u.Devices.Judge(u.device.ID, v)
	}
}

func (u *update) result(number uint64, state string, reads ledger.Content, err error) Result {
	return Result{
		Device: u.device.ID, Attempt: number, From: u.from.String(), To: u.to.String(), Reads: reads.String(),
		State: state, Problem: problem(err), Time: time.Now(),
	}
}
