package firmware

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/inventory"
	"github.com/ratchetos/ratchet/hw"
	fw "github.com/ratchetos/ratchet/hw/firmware"
)

// Judged is a device that showed up while the box runs, with its verdict.
type Judged struct {
	Device  hw.Device
	Verdict verdict.Verdict
}

// Plugged judges a device that was plugged while the box runs, and tells the inventory. A function is
// bound, in quarantine, only if a device of its kind was admitted and is not there: it may be that one.
// A device that was never admitted is not even bound. What is not released loses its driver.
func (m *Manager) Plugged(ctx context.Context, d hw.Device) ([]Judged, error) {
	j, err := m.Attempts.Judge(ctx)
	if err != nil {
		return nil, err
	}
	if d.Driver != "" { // a disk behind a controller that is in use
		return m.verdicts(j, []hw.Device{m.reread(ctx, d)}), nil
	}
	if !d.Supported || !m.awaited(j, d.Kind) {
		return m.verdicts(j, []hw.Device{d}), nil
	}
	devices, err := m.Devices.Devices()
	if err != nil {
		return nil, err
	}
	bound, isolate, err := m.bind(ctx, d.Place, devices)
	if err != nil {
		return nil, err
	}
	judged := m.verdicts(j, twins(bound, devices))
	if !slices.ContainsFunc(judged, func(x Judged) bool { return x.Verdict.Decision == verdict.Released }) {
		err = isolate()
	}
	return judged, err
}

// reread asks a device that is bound what it runs, as binding it does.
func (m *Manager) reread(ctx context.Context, d hw.Device) hw.Device {
	f, err := m.Hardware.Firmware(d)
	if errors.Is(err, fw.ErrUnsupported) {
		return d // what its driver told is all there is
	}
	var now fw.Reading
	if err == nil {
		now, err = f.ReadBack(ctx)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		d.FirmwareErr = err.Error()
		return d
	}
	if d.Firmware, d.FirmwareDigest = now.Version, ""; now.Strength == fw.Digest {
		d.FirmwareDigest = hex.EncodeToString(now.Digest[:])
	}
	return d
}

// verdicts judges devices as they read back.
func (m *Manager) verdicts(j verdict.Judgement, devices []hw.Device) []Judged {
	var out []Judged
	for _, d := range devices {
		v := verdict.Returned(j, verdict.Observed{
			ID: d.ID, Place: d.Place, Kind: string(d.Kind), Serial: d.Serial,
			Content: ledger.OfFirmware(d.Firmware, d.FirmwareDigest), Err: d.FirmwareErr,
		})
		if !d.Supported {
			v = verdict.Verdict{Decision: verdict.Isolated, Code: "unsupported", Reason: d.Why, Next: "ratchetctl hw list"}
		}
		m.Devices.Judge(d.ID, v)
		out = append(out, Judged{d, v})
	}
	return out
}

// awaited says whether an admitted device that a function of this kind may bring is not there.
func (m *Manager) awaited(j verdict.Judgement, kind hw.Kind) bool {
	devices, err := m.Devices.Devices()
	if err != nil || j.Ledger == nil {
		return false
	}
	for _, was := range j.Ledger.Devices {
		// A simulated device comes as the disk that it lives on.
		fits := (hw.Kind(was.Kind) == hw.NIC) == (kind == hw.NIC)
		here := slices.ContainsFunc(devices, func(d inventory.Device) bool { return d.ID == was.ID && d.Verdict.Code != missing })
		if fits && !here {
			return true
		}
	}
	return false
}

// twins takes its name from a device that claims that of another one which is there: it goes by its place,
// under which nobody admitted it.
func twins(bound []hw.Device, there []inventory.Device) []hw.Device {
	out := slices.Clone(bound)
	for i, b := range out {
		if slices.ContainsFunc(there, func(d inventory.Device) bool { return d.ID == b.ID && d.Place != b.Place && d.Verdict.Code != missing }) {
			out[i].ID = b.Place
		}
	}
	return out
}

// missing is the verdict's code for a device that was admitted and is not there.
const missing = "missing"
