package apitest

import (
	"context"
	"fmt"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
)

// flashable is the one device whose firmware can be replaced.
const flashable = "serial:SIM-1"

// Firmware has one device with an update that waits for the next boot and one that is isolated.
func (b *Backend) Firmware(context.Context) ([]*apipb.FirmwareDevice, error) {
	return []*apipb.FirmwareDevice{
		{
			Id: flashable, Kind: "simulated", Model: "simulated device", Running: "1.0", Strength: "digest", Digest: "8f434346648f6b96df89",
			Slot: "0", Next: "1.1", Expected: "version 1.0", Attempt: 43,
			Components: []*apipb.FirmwareComponent{{Running: "1.0", Stored: "1.1", Slots: []*apipb.FirmwareSlot{
				{Name: "0", Version: "1.0", Active: true}, {Name: "1", Version: "1.1", Next: true},
			}}},
		},
		{Id: "mac:52:54:00:72:61:09", Kind: "nic", Model: "X710", Expected: "version 8.5", Problem: "isolated: its firmware should be version 8.5 and reads version 9.9"},
	}, nil
}

// VerifyFirmware finds the first device in order and the other one changed.
func (b *Backend) VerifyFirmware(_ context.Context, selector string) ([]*apipb.VerifiedFirmware, error) {
	all := []*apipb.VerifiedFirmware{
		{Id: flashable, Reads: "version 1.0", Verdict: &apipb.Verdict{Decision: "released", Code: "ok", Reason: "it reads back as expected"}},
		{Id: "mac:52:54:00:72:61:09", Reads: "version 9.9", Verdict: &apipb.Verdict{
			Decision: "isolated", Code: "firmware-changed", Reason: "it was changed behind our back", Next: "ratchetctl firmware recover mac:52:54:00:72:61:09",
		}},
	}
	if selector == "" {
		return all, nil
	}
	for _, v := range all {
		if v.GetId() == selector {
			return []*apipb.VerifiedFirmware{v}, nil
		}
	}
	return nil, fmt.Errorf("device %q: %w; see: ratchetctl hw list", selector, api.ErrNotFound)
}

// StageFirmware counts what it is given.
func (b *Backend) StageFirmware(_ context.Context, offset uint64, data []byte) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if offset == 0 {
		b.staged = 0
	}
	if offset != b.staged {
		return b.staged, fmt.Errorf("%w: a piece at %d, %d bytes are there", api.ErrInvalid, offset, b.staged)
	}
	b.staged += uint64(len(data))
	return b.staged, nil
}

// FlashFirmware is noted and takes effect at the next boot.
func (b *Backend) FlashFirmware(_ context.Context, r *apipb.FlashFirmwareRequest, emit func(*apipb.FlashFirmwareProgress) error) error {
	if b.Isolated {
		return fmt.Errorf("flash %s: %w", r.GetSelector(), api.ErrNotReleased)
	}
	if r.GetSelector() != flashable {
		return fmt.Errorf("%w: the package is not for this device: it is for [simulated device], %s is X710", api.ErrPrecondition, r.GetSelector())
	}
	b.mu.Lock()
	size := b.staged
	b.mu.Unlock()
	b.note("flash %s recover %t staged %t %d bytes", r.GetSelector(), r.GetRecover(), r.GetStaged(), size)
	result := &apipb.FirmwareResult{Device: flashable, Attempt: 43, From: "version 1.0", To: "version 1.1", Reads: "version 1.0", State: "at-reset"}
	for _, p := range []*apipb.FlashFirmwareProgress{
		{Phase: "write", Done: size / 2, Total: size}, {Phase: "write", Done: size, Total: size}, {Result: result},
	} {
		if err := emit(p); err != nil {
			return err
		}
	}
	return nil
}

// AdmitDevice admits one device.
func (b *Backend) AdmitDevice(_ context.Context, selector string) (*apipb.AdmitReply, error) {
	if selector != "serial:new" {
		return nil, fmt.Errorf("device %q: %w; see: ratchetctl hw list", selector, api.ErrNotFound)
	}
	b.note("admit %s", selector)
	return &apipb.AdmitReply{Id: selector, Attempt: 43, Firmware: "version 2.5+"}, nil
}
