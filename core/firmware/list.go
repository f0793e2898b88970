package firmware

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/inventory"
	fw "github.com/ratchetos/ratchet/hw/firmware"
)

// Info is one device's firmware.
type Info struct {
	Device     inventory.Device
	Reading    fw.Reading
	Components []fw.Component
	Err        error           // why it cannot be read
	Expected   *ledger.Content // by the ledger; nil when it does not know the device
	Attempt    uint64          // open on it, 0 for none
	Last       *Result         // of the last update, nil for none
}

// List reads the firmware of every device that offers a way to it.
func (m *Manager) List(ctx context.Context) ([]Info, error) {
	devices, err := m.Devices.Devices()
	if err != nil {
		return nil, err
	}
	j, err := m.Attempts.Judge(ctx)
	if err != nil {
		return nil, err
	}
	var out []Info
	for _, d := range devices {
		info := Info{Device: d, Last: m.last(ctx, d.ID)}
		if was := known(j, d.ID); was != nil {
			info.Expected = &was.Content
		}
		for _, i := range j.Open {
			if i.Target == ledger.DeviceTarget(d.ID) {
				info.Attempt = i.Number
			}
		}
		if isolated(d) {
			// It has no driver; it is listed for what is known about it.
			if info.Expected != nil && info.Expected.Strength > ledger.StrengthNone {
				info.Err = errors.New(string(d.Verdict.Decision) + ": " + d.Verdict.Reason)
				out = append(out, info)
			}
			continue
		}
		f, err := m.Hardware.Firmware(d.Device)
		if errors.Is(err, fw.ErrUnsupported) {
			continue
		}
		if err == nil {
			info.Reading, info.Components, err = look(ctx, f)
			err = errors.Join(err, f.Close())
		}
		info.Err = err
		out = append(out, info)
	}
	return out, nil
}

func isolated(d inventory.Device) bool { return d.Driver == "" || d.Node == "" }

// Check is one device, read back and judged.
type Check struct {
	ID      string
	Reads   ledger.Content
	Verdict verdict.Verdict
}

// Verify reads a device back, or with the empty selector all that offer a way to their firmware, and
// judges each as the next boot will.
func (m *Manager) Verify(ctx context.Context, selector string) ([]Check, error) {
	var devices []inventory.Device
	var err error
	if selector == "" {
		devices, err = m.Devices.Devices()
	} else {
		devices = make([]inventory.Device, 1)
		devices[0], err = m.Devices.Resolve(selector)
	}
	if err != nil {
		return nil, err
	}
	j, err := m.Attempts.Judge(ctx)
	if err != nil {
		return nil, err
	}
	var out []Check
	for _, d := range devices {
		c := Check{ID: d.ID, Verdict: d.Verdict}
		if !isolated(d) && !d.Boot {
			f, err := m.Hardware.Firmware(d.Device)
			if errors.Is(err, fw.ErrUnsupported) {
				if selector != "" {
					return nil, err
				}
				continue
			}
			var now fw.Reading
			if err == nil {
				now, err = f.ReadBack(ctx)
				err = errors.Join(err, f.Close())
			}
			c.Reads, c.Verdict = content(now), verdict.Returned(j, observed(d.Device, now, err))
		} else if selector == "" {
			continue
		}
		out = append(out, c)
	}
	return out, nil
}

// space of the results in core's state.
const space = "firmware"

// record keeps a result; losing one loses no more than what "list" says of the past.
func (m *Manager) record(ctx context.Context, r Result) {
	if m.Store == nil {
		return
	}
	if b, err := json.Marshal(r); err == nil {
		_ = m.Store.Put(ctx, space, r.Device, b)
	}
}

func (m *Manager) last(ctx context.Context, id string) *Result {
	if m.Store == nil {
		return nil
	}
	b, found, err := m.Store.Get(ctx, space, id)
	var r Result
	if err != nil || !found || json.Unmarshal(b, &r) != nil {
		return nil
	}
	return &r
}
