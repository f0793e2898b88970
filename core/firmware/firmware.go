package firmware

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/boot/attempt"
	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/inventory"
	"github.com/ratchetos/ratchet/core/state"
	"github.com/ratchetos/ratchet/hw"
	fw "github.com/ratchetos/ratchet/hw/firmware"
)

var (
	// ErrOther says that a package is good, but not for this device.
	ErrOther = errors.New("the package is not for this device")
	// ErrPending says that an earlier update of the device takes effect at the next boot.
	ErrPending = errors.New("an update of this device waits for the next boot: reboot first")
	// ErrBusy says that another update runs.
	ErrBusy = errors.New("another firmware update runs")
	// ErrNothing says that there is nothing to recover.
	ErrNothing = errors.New("there is nothing to recover")
)

// Devices is what of the inventory an update needs.
type Devices interface {
	Devices() ([]inventory.Device, error)
	Resolve(selector string) (inventory.Device, error)
	// Judge replaces the verdict on a device for the rest of this run.
	Judge(id string, v verdict.Verdict)
}

// Hardware is what of package hw it needs.
type Hardware interface {
	Firmware(d hw.Device) (fw.Firmware, error)
	Bind(ctx context.Context, place string) ([]hw.Device, error)
	Isolate(place string) error
}

// Attempts opens them, and asks how things stand.
type Attempts interface {
	Open(ctx context.Context, i ledger.Intent) (attempt.Attempt, error)
	Judge(ctx context.Context) (verdict.Judgement, error)
}

var (
	_ Devices  = (*inventory.Inventory)(nil)
	_ Hardware = (*hw.System)(nil)
	_ Attempts = (*attempt.Manager)(nil)
)

// Options of New; Devices, Hardware and Attempts are needed.
type Options struct {
	Devices  Devices
	Hardware Hardware
	Attempts Attempts
	Store    state.Store   // keeps the results; nil forgets them
	Limit    time.Duration // of one update, 30 minutes if zero
}

// Manager updates devices.
type Manager struct {
	Options
	running sync.Mutex // held during an update, and for good after End
}

// New does no I/O.
func New(o Options) *Manager {
	if o.Limit == 0 {
		o.Limit = 30 * time.Minute
	}
	return &Manager{Options: o}
}

// End waits for the update that runs, if any. All later ones are refused with ErrBusy.
func (m *Manager) End() { m.running.Lock() }

// Result is how an update ended.
type Result struct {
	Device  string    `json:"device"`
	Attempt uint64    `json:"attempt"` // 0: nothing was to do
	From    string    `json:"from"`
	To      string    `json:"to"`
	Reads   string    `json:"reads"` // afterwards
	State   string    `json:"state"`
	Problem string    `json:"problem,omitempty"`
	Time    time.Time `json:"time"`
}

// States of a Result.
const (
	Unchanged = "unchanged" // the device runs it already
	Activated = "activated"
	AtReset   = "at-reset" // the next boot activates it
	Failed    = "failed"
)

// content is what a ledger says of a reading.
func content(r fw.Reading) ledger.Content {
	digest := ""
	if r.Strength == fw.Digest {
		digest = hex.EncodeToString(r.Digest[:])
	}
	return ledger.OfFirmware(r.Version, digest)
}

// observed is a device as an update reads it, for the verdict's comparison.
func observed(d hw.Device, r fw.Reading, err error) verdict.Observed {
	o := verdict.Observed{ID: d.ID, Place: d.Place, Kind: string(d.Kind), Serial: d.Serial, Content: content(r)}
	if err != nil {
		o.Err = err.Error()
	}
	return o
}

// fits compares a package with a device.
func fits(m bundle.DeviceManifest, d hw.Device) error {
	for _, model := range m.Models {
		if model == d.Model || model == d.Vendor+":"+d.Product {
			return nil
		}
	}
	return fmt.Errorf("%w: it is for %v, %s is %s (%s:%s)", ErrOther, m.Models, d.ID, d.Model, d.Vendor, d.Product)
}

// expected is what a device reads back as once the package runs. A package that names other components than the device
// has is ErrOther.
func expected(m bundle.DeviceManifest, now fw.Reading, components []fw.Component) (ledger.Content, error) {
	switch now.Strength {
	case fw.Digest:
		return ledger.Content{Strength: ledger.StrengthDigest, Digest: ledger.Digest(m.Image.SHA256), Version: m.Version()}, nil
	case fw.Version:
		if err := named(m.Versions, components); err != nil {
			return ledger.Content{}, err
		}
		return ledger.OfFirmware(fw.Expected(components, m.Versions), ""), nil
	}
	return ledger.OfFirmware("", ""), nil
}

// remembered are the components of a device that cannot be read, by what the ledger knows of it. The name of an only one
// is not in the ledger; it is taken from the package.
func remembered(version string, update map[string]string) []fw.Component {
	parts := strings.Split(version, ", ")
	if len(parts) == 1 {
		only := fw.Component{Running: version}
		for name := range update {
			only.Name = name
		}
		return []fw.Component{only}
	}
	var components []fw.Component
	for _, part := range parts {
		name, running, _ := strings.Cut(part, " ")
		components = append(components, fw.Component{Name: name, Running: running})
	}
	return components
}

// named finds every component that a package names in the device; "" is the only one.
func named(versions map[string]string, components []fw.Component) error {
	var names []string
	for _, c := range components {
		if !c.Fixed {
			names = append(names, c.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		switch {
		case name == "" && len(names) > 1:
			return fmt.Errorf("%w: it gives one version and names no component, the device has several: %s", ErrOther, strings.Join(names, ", "))
		case name != "" && !slices.Contains(names, name):
			return fmt.Errorf("%w: the device has no component %q but %s", ErrOther, name, strings.Join(names, ", "))
		}
	}
	return nil
}
