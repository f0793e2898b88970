package core

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/firmware"
	fw "github.com/ratchetos/ratchet/hw/firmware"
)

// maxPackage is a firmware package with everything around the firmware.
const maxPackage = bundle.MaxDeviceImage + 1<<20

// staging holds the package that the next flash takes.
type staging struct {
	mu   sync.Mutex
	file *os.File // without a name; nil when nothing is staged
	size uint64
}

// add writes a piece; offset 0 begins a new package. dir has to have room for it.
func (s *staging) add(dir string, offset uint64, data []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if offset == 0 {
		f, err := os.CreateTemp(dir, "package-")
		if err == nil {
			err = os.Remove(f.Name())
		}
		if err != nil {
			return 0, fmt.Errorf("stage firmware package: %w", err)
		}
		s.drop()
		s.file, s.size = f, 0
	}
	switch {
	case s.file == nil || offset != s.size:
		return s.size, fmt.Errorf("%w: a piece at %d, but %d bytes of the package are here; send it from its start", api.ErrInvalid, offset, s.size)
	case s.size+uint64(len(data)) > maxPackage:
		s.drop()
		return 0, fmt.Errorf("%w: a firmware package has at most %d MiB", api.ErrInvalid, maxPackage>>20)
	}
	if _, err := s.file.WriteAt(data, int64(offset)); err != nil {
		s.drop()
		if errors.Is(err, unix.ENOSPC) {
			return 0, fmt.Errorf("%w: there is no room for the package in %s", api.ErrPrecondition, dir)
		}
		return 0, fmt.Errorf("stage firmware package: %w", err)
	}
	s.size += uint64(len(data))
	return s.size, nil
}

// take hands the package over; nothing is staged after it.
func (s *staging) take() (*os.File, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, size := s.file, s.size
	s.file, s.size = nil, 0
	return f, size
}

func (s *staging) drop() {
	if s.file != nil {
		s.file.Close()
	}
	s.file, s.size = nil, 0
}

// updates is the manager of device firmware, or why there is none.
func (b backend) updates() (*firmware.Manager, error) {
	switch {
	case b.a.firmware != nil:
		return b.a.firmware, nil
	case b.a.report == nil:
		return nil, fmt.Errorf("%w: core runs on a workstation, whose devices are not its own", api.ErrPrecondition)
	}
	return nil, fmt.Errorf("%w: there is no counter to record an attempt in: %s", api.ErrNotReleased, b.a.report.Box.Reason)
}

// Firmware implements api.Backend.
func (b backend) Firmware(ctx context.Context) ([]*apipb.FirmwareDevice, error) {
	m, err := b.updates()
	if err != nil {
		return nil, err
	}
	list, err := m.List(ctx)
	if err != nil {
		return nil, firmwareError(err)
	}
	out := make([]*apipb.FirmwareDevice, len(list))
	for i, l := range list {
		x := &apipb.FirmwareDevice{
			Id: l.Device.ID, Kind: string(l.Device.Kind), Model: l.Device.Model, Slot: l.Reading.Slot,
			Running: l.Reading.Version, Next: l.Reading.Next, Attempt: l.Attempt,
		}
		if l.Err != nil {
			x.Problem = l.Err.Error()
		} else {
			x.Strength = l.Reading.Strength.String()
		}
		if l.Reading.Strength == fw.Digest {
			x.Digest = hex.EncodeToString(l.Reading.Digest[:])
		}
		if l.Expected != nil {
			x.Expected = l.Expected.String()
		}
		if l.Last != nil {
			x.Last = result(*l.Last)
		}
		for _, c := range l.Components {
			x.Components = append(x.Components, component(c))
		}
		out[i] = x
	}
	return out, nil
}

func component(c fw.Component) *apipb.FirmwareComponent {
	x := &apipb.FirmwareComponent{Name: c.Name, Running: c.Running, Stored: c.Stored, Fixed: c.Fixed}
	for _, s := range c.Slots {
		x.Slots = append(x.Slots, &apipb.FirmwareSlot{Name: s.Name, Version: s.Version, Active: s.Active, Next: s.Next, ReadOnly: s.ReadOnly})
	}
	return x
}

func result(r firmware.Result) *apipb.FirmwareResult {
	return &apipb.FirmwareResult{
		Device: r.Device, Attempt: r.Attempt, From: r.From, To: r.To, Reads: r.Reads, State: r.State, Problem: r.Problem,
		UnixMs: r.Time.UnixMilli(),
	}
}

// VerifyFirmware implements api.Backend.
func (b backend) VerifyFirmware(ctx context.Context, selector string) ([]*apipb.VerifiedFirmware, error) {
	m, err := b.updates()
	if err != nil {
		return nil, err
	}
	checks, err := m.Verify(ctx, selector)
	if err != nil {
		return nil, firmwareError(err)
	}
	out := make([]*apipb.VerifiedFirmware, len(checks))
	for i, c := range checks {
		v := c.Verdict
		out[i] = &apipb.VerifiedFirmware{Id: c.ID, Verdict: &apipb.Verdict{Decision: string(v.Decision), Code: v.Code, Reason: v.Reason, Next: v.Next}}
		if c.Reads.Strength != ledger.StrengthAbsent {
			out[i].Reads = c.Reads.String()
		}
	}
	return out, nil
}

// StageFirmware implements api.Backend.
func (b backend) StageFirmware(_ context.Context, offset uint64, data []byte) (uint64, error) {
	dir := b.a.stateDir
	if dir == "" {
		dir = b.a.runDir
	}
	return b.a.staged.add(dir, offset, data)
}

// FlashFirmware implements api.Backend.
func (b backend) FlashFirmware(ctx context.Context, r *apipb.FlashFirmwareRequest, emit func(*apipb.FlashFirmwareProgress) error) error {
	m, err := b.updates()
	if err != nil {
		return err
	}
	var p *firmware.Package
	if r.GetStaged() {
		f, size := b.a.staged.take()
		if f == nil {
			return fmt.Errorf("%w: no package is staged", api.ErrInvalid)
		}
		defer f.Close()
		keys, err := bundle.ParseKeys(b.a.report.BundleKeys)
		if err != nil {
			return err
		}
		if p, err = firmware.OpenPackage(f, int64(size), keys); err != nil {
			return firmwareError(err)
		}
	}
	signer := api.Caller(ctx).Name
	var res firmware.Result
	switch {
	case r.GetRecover():
		res, err = m.Recover(ctx, r.GetSelector(), p, signer, percent(emit))
	case p == nil:
		return fmt.Errorf("%w: a flash needs a package", api.ErrInvalid)
	default:
		res, err = m.Flash(ctx, r.GetSelector(), p, signer, percent(emit))
	}
	if err != nil {
		return firmwareError(err)
	}
	return emit(&apipb.FlashFirmwareProgress{Result: result(res)})
}

// percent passes progress on, at most once for each hundredth. Whoever stopped listening is no reason to
// stop: the result is in "firmware list".
func percent(emit func(*apipb.FlashFirmwareProgress) error) func(fw.Progress) {
	last := int64(-1)
	return func(p fw.Progress) {
		if p.Total > 0 {
			now := p.Done * 100 / p.Total
			if now == last {
				return
			}
			last = now
		}
		_ = emit(&apipb.FlashFirmwareProgress{Phase: p.Phase, Done: uint64(p.Done), Total: uint64(p.Total)})
	}
}

// AdmitDevice implements api.Backend.
func (b backend) AdmitDevice(ctx context.Context, selector string) (*apipb.AdmitReply, error) {
	m, err := b.updates()
	if err != nil {
		return nil, err
	}
	a, err := m.Admit(ctx, selector, api.Caller(ctx).Name)
	if err != nil {
		return nil, firmwareError(err)
	}
	return &apipb.AdmitReply{Id: a.ID, Attempt: a.Attempt, Firmware: a.Content.String()}, nil
}

// firmwareError gives the errors of an update their meaning on the wire.
func firmwareError(err error) error {
	for _, refused := range []error{bundle.ErrSigner, bundle.ErrDamaged, firmware.ErrOther} {
		if errors.Is(err, refused) {
			return fmt.Errorf("%w: %w", api.ErrInvalid, err)
		}
	}
	for _, state := range []error{firmware.ErrPending, firmware.ErrBusy, firmware.ErrNothing, firmware.ErrAdmitted, fw.ErrUnsupported} {
		if errors.Is(err, state) {
			return fmt.Errorf("%w: %w", api.ErrPrecondition, err)
		}
	}
	return hardwareError(err)
}
