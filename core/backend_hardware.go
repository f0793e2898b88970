package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"

	"github.com/ratchetos/ratchet/boot/attempt"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/inventory"
	"github.com/ratchetos/ratchet/hw"
	"github.com/ratchetos/ratchet/hw/disk"
)

// opener opens TPM and LEDGER of the box for one attempt.
func (a *appliance) opener() attempt.Opener {
	node := a.report.BootDisk.Ledger
	return attempt.Opener{
		TPM:    func() (transport.TPMCloser, error) { return linuxtpm.Open("/dev/tpmrm0") },
		Ledger: func() (attempt.Medium, error) { return ledger.OpenFile(node, false) },
	}
}

// Hardware implements api.Backend.
func (b backend) Hardware(context.Context) ([]*apipb.Device, error) {
	devices, err := b.a.devices.Devices()
	if err != nil {
		return nil, err
	}
	out := make([]*apipb.Device, len(devices))
	for i, d := range devices {
		out[i] = device(d)
		out[i].Content = b.a.devices.Content(d)
	}
	return out, nil
}

func device(d inventory.Device) *apipb.Device {
	x := &apipb.Device{
		Id: d.ID, Place: d.Place, Kind: string(d.Kind), Bus: d.Bus, Model: d.Model, Driver: d.Driver, Node: d.Node,
		Size: d.Size, Firmware: d.Firmware, Supported: d.Supported, Why: d.Why, Owner: d.Owner, Serial: d.Serial,
	}
	if v := d.Verdict; v.Decision != "" {
		x.Verdict = &apipb.Verdict{Decision: string(v.Decision), Code: v.Code, Reason: v.Reason, Next: v.Next}
	}
	return x
}

// ClaimDevice implements api.Backend. A plugin that waits for the disk is restarted to have another look.
func (b backend) ClaimDevice(ctx context.Context, selector string, erase bool) (*apipb.Device, error) {
	d, owner, err := b.a.devices.Claim(ctx, selector, erase, b.a.inOrder)
	if err != nil {
		return nil, hardwareError(err)
	}
	if owner != "" && b.known(owner) == nil {
		if err := b.a.host.Restart(ctx, owner); err != nil {
			return nil, fmt.Errorf("the disk is free; its plugin did not come back: %w", err)
		}
	}
	return device(d), nil
}

// ReleaseDevice implements api.Backend.
func (b backend) ReleaseDevice(_ context.Context, selector string) error {
	_, err := b.a.devices.Free(selector)
	return hardwareError(err)
}

// inOrder is why the disk of a plugin that has nothing to complain of is not erased under it: nothing stands in its way.
func (a *appliance) inOrder(plugin string) error {
	for _, s := range a.host.Status() {
		if s.Name == plugin && s.Health == "ok" {
			return fmt.Errorf("%s uses what is on it, and nothing is wrong; take it out of the configuration first", plugin)
		}
	}
	return nil
}

// hardwareError gives the errors of hw and inventory their meaning on the wire.
func hardwareError(err error) error {
	var missing *hw.NotFoundError
	var several *hw.AmbiguousError
	var foreign *disk.ForeignError
	switch {
	case errors.As(err, &missing), errors.As(err, &several):
		return fmt.Errorf("%w: %w", api.ErrNotFound, err)
	case errors.As(err, &foreign), errors.Is(err, inventory.ErrInUse):
		return fmt.Errorf("%w: %w", api.ErrPrecondition, err)
	case errors.Is(err, inventory.ErrNotReleased):
		return fmt.Errorf("%w: %w", api.ErrNotReleased, err)
	}
	return err
}
