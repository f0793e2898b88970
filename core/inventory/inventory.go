package inventory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

// Owners that are no plugin.
const (
	Management = "management"
	BootDisk   = "boot"
)

// DataSelector names the DATA partition of the boot disk, for boxes with one disk.
const DataSelector = hw.DataPartition

// ErrNotReleased is wrapped when the boot verdict keeps a device out of use.
var ErrNotReleased = errors.New("not released")

// Hardware is the part of hw.System that the inventory needs.
type Hardware interface {
	Inventory() ([]hw.Device, error)
	Bind(ctx context.Context, place string) ([]hw.Device, error)
	Isolate(place string) error
}

// Device is one NIC or disk with what core knows of it.
type Device struct {
	hw.Device
	Owner   string          // plugin, Management, BootDisk or ""
	Verdict verdict.Verdict // zero on a workstation
}

// Inventory hands hardware out. Make it with New.
type Inventory struct {
	hardware Hardware
	report   *verdict.Report // nil on a workstation

	mu     sync.Mutex
	leases map[string]*lease // by device id
	// judged are verdicts given while the box runs; they replace those of the report.
	judged map[string]verdict.Device
	// What hw found last, and when. A start asks a dozen times in a second, and each look walks sysfs.
	found   []hw.Device
	scanned time.Time
}

// fresh is how long what hw found is believed; a device that was plugged or pulled shows after it at the latest.
const fresh = time.Second

// lease is a device in somebody's hands.
type lease struct {
	device hw.Device
	owner  string
	file   *os.File // disks: core's own descriptor, for claims; the plugin has a duplicate
}

// New makes an inventory. A nil report means that no verdict was given: a workstation.
func New(hardware Hardware, report *verdict.Report) *Inventory {
	return &Inventory{hardware: hardware, report: report, leases: make(map[string]*lease), judged: make(map[string]verdict.Device)}
}

// Devices lists everything, owned devices that are out of sight (a NIC in another namespace) included.
func (inv *Inventory) Devices() ([]Device, error) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	found, err := inv.visible()
	if err != nil {
		return nil, err
	}
	out := make([]Device, 0, len(found))
	for _, d := range found {
		out = append(out, inv.describe(d))
	}
	return out, nil
}

// scan asks hw, at most once in a while. The caller holds mu and may change the result.
func (inv *Inventory) scan() ([]hw.Device, error) {
	if time.Since(inv.scanned) > fresh {
		found, err := inv.hardware.Inventory()
		if err != nil {
			return nil, fmt.Errorf("list hardware: %w", err)
		}
		inv.found, inv.scanned = found, time.Now()
	}
	return slices.Clone(inv.found), nil
}

// Rescan has the next question answered by the hardware as it is then.
func (inv *Inventory) Rescan() {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	inv.scanned = time.Time{}
}

// visible is what hw finds and what is leased. The caller holds mu.
func (inv *Inventory) visible() ([]hw.Device, error) {
	found, err := inv.scan()
	if err != nil {
		return nil, err
	}
	if inv.report != nil && inv.report.BootDisk.Data != "" {
		d := hw.Device{
			ID: DataSelector, Place: DataSelector, Kind: hw.Disk, Bus: "partition", Model: "DATA partition of the boot disk",
			Node: inv.report.BootDisk.Data, Supported: true, Size: sizeOf(inv.report.BootDisk.Data),
		}
		found = append(found, d)
	}
	found = inv.named(found)
	for _, l := range inv.leases {
		same := func(d hw.Device) bool { return d.ID == l.device.ID }
		if slices.ContainsFunc(found, same) || l.device.Bus == "file" {
			continue
		}
		// A NIC that moved away leaves its bare function behind; the NIC stands for it.
		found = slices.DeleteFunc(found, func(d hw.Device) bool { return d.ID == l.device.Place })
		found = append(found, l.device)
	}
	slices.SortFunc(found, func(a, b hw.Device) int { return strings.Compare(a.Place, b.Place) })
	return found, nil
}

func (inv *Inventory) describe(d hw.Device) Device {
	out := Device{Device: d, Verdict: inv.verdict(d)}
	if inv.bootDisk(d) {
		out.Boot, out.Owner = true, BootDisk
	}
	if l := inv.leases[d.ID]; l != nil {
		out.Owner = l.owner
	}
	return out
}

// Content says what a disk without owner holds that is not ours, "" for nothing. It reads the disk.
func (inv *Inventory) Content(d Device) string {
	if d.Kind != hw.Disk || d.Node == "" || d.Owner != "" || d.Verdict.Decision != verdict.Released {
		return ""
	}
	return content(d.Device)
}

// verdict for one device; the DATA partition shares that of its disk.
func (inv *Inventory) verdict(d hw.Device) verdict.Verdict {
	if inv.report == nil {
		return verdict.Verdict{}
	}
	if inv.report.Box.Decision != verdict.Released {
		return inv.report.Box
	}
	id := d.ID
	if id == DataSelector {
		id = inv.report.BootDisk.ID
	}
	if v := inv.given(id, d.Place); v != nil {
		return v.Verdict
	}
	if id == inv.report.BootDisk.ID {
		return inv.report.Box
	}
	return verdict.Verdict{
		Decision: verdict.Quarantined, Code: "unknown", Reason: "the device was not there at boot",
		Next: "ratchetctl hw admit " + d.ID,
	}
}

func (inv *Inventory) bootDisk(d hw.Device) bool {
	return d.Boot || inv.report != nil && inv.report.BootDisk.ID != "" && d.ID == inv.report.BootDisk.ID
}

// Resolve finds the device that a selector means, whoever has it. Errors are those of hw.Resolve.
func (inv *Inventory) Resolve(selector string) (Device, error) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return inv.resolve(selector)
}

func (inv *Inventory) resolve(selector string) (Device, error) {
	found, err := inv.visible()
	if err != nil {
		return Device{}, err
	}
	if selector == DataSelector {
		for _, d := range found {
			if d.ID == DataSelector {
				return inv.describe(d), nil
			}
		}
		return Device{}, &hw.NotFoundError{Selector: selector, Hint: "the boot disk has no DATA partition, or it did not open; the console said why at boot"}
	}
	d, err := hw.Resolve(found, selector)
	if err != nil {
		return Device{}, err
	}
	return inv.describe(d), nil
}

// Reserve keeps a device for an owner that is no plugin.
func (inv *Inventory) Reserve(d hw.Device, owner string) error {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if l := inv.leases[d.ID]; l != nil && l.owner != owner {
		return fmt.Errorf("reserve %s for %s: %s has it", d.ID, owner, l.owner)
	}
	inv.leases[d.ID] = &lease{device: d, owner: owner}
	return nil
}

// Unreserve gives back what Reserve kept; a device that somebody else has stays with them.
func (inv *Inventory) Unreserve(id, owner string) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if l := inv.leases[id]; l != nil && l.owner == owner {
		delete(inv.leases, id)
	}
}

// allowed says why a device may not be used, nil when it may.
func (inv *Inventory) allowed(d Device) error {
	if d.Bus == "file" {
		return nil
	}
	if inv.report == nil {
		return fmt.Errorf("%s: %w: a workstation's own hardware is never handed out; use file:PATH", d.ID, ErrNotReleased)
	}
	if d.Verdict.Decision != verdict.Released {
		next := ""
		if d.Verdict.Next != "" {
			next = "; next: " + d.Verdict.Next
		}
		return fmt.Errorf("%s: %w: %s%s", d.ID, ErrNotReleased, d.Verdict.Reason, next)
	}
	return nil
}
