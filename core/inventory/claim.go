package inventory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/hw"
	"github.com/ratchetos/ratchet/hw/disk"
)

// ErrInUse is wrapped when a device cannot be released because somebody has it.
var ErrInUse = errors.New("in use")

// Claim makes a device usable: one that was released is bound again, and a disk is made free for its owner; without
// erase that fails with *disk.ForeignError when something is on it. It returns the device and the plugin that waits
// for it, "" when none does. content is asked before what is on a disk that a plugin has is erased: its error keeps it.
func (inv *Inventory) Claim(ctx context.Context, selector string, erase bool, content func(owner string) error) (Device, string, error) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	d, err := inv.resolve(selector)
	if err != nil {
		return Device{}, "", err
	}
	if d.Boot {
		return Device{}, "", fmt.Errorf("claim %s: %w: it is the boot disk; its DATA partition is selected by %q", d.ID, ErrInUse, DataSelector)
	}
	if err := inv.allowed(d); err != nil {
		return Device{}, "", err
	}
	if d.Driver == "" && strings.HasPrefix(d.Place, "pci:") {
		inv.scanned = time.Time{} // what was found is not true any more
		bound, err := inv.hardware.Bind(ctx, d.Place)
		if err != nil {
			return Device{}, "", fmt.Errorf("claim %s: %w", d.ID, err)
		}
		if len(bound) != 1 {
			return Device{}, "", fmt.Errorf("claim %s: bound; %d devices are behind it, claim one of them", d.ID, len(bound))
		}
		d = inv.describe(bound[0])
	}
	owner := ""
	f := (*os.File)(nil)
	if l := inv.leases[d.ID]; l != nil {
		owner, f = l.owner, l.file
	}
	if d.Kind != hw.Disk {
		return d, owner, nil
	}
	if erase && owner != "" {
		if err := content(owner); err != nil {
			return Device{}, "", fmt.Errorf("erase %s: %w: %w", d.ID, ErrInUse, err)
		}
	}
	if f == nil {
		if f, err = open(d.Device); err != nil {
			return Device{}, "", err
		}
		defer f.Close()
	}
	if err := disk.Claim(f, int64(d.Size), erase); err != nil {
		return Device{}, "", fmt.Errorf("%s: %w", d.ID, err)
	}
	return inv.describe(d.Device), owner, nil
}

// Free takes a device out of use so that it can be pulled: its driver is unbound and stays so until Claim or the
// next boot. Everything behind the same function must be without an owner.
func (inv *Inventory) Free(selector string) (Device, error) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	d, err := inv.resolve(selector)
	if err != nil {
		return Device{}, err
	}
	if err := inv.allowed(d); err != nil {
		return Device{}, err
	}
	at := function(d.Place)
	if !strings.HasPrefix(at, "pci:") {
		return Device{}, fmt.Errorf("release %s: %w: only whole devices are released", d.ID, ErrInUse)
	}
	all, err := inv.visible()
	if err != nil {
		return Device{}, err
	}
	for _, other := range all {
		if function(other.Place) != at {
			continue
		}
		if owner := inv.describe(other).Owner; owner != "" {
			return Device{}, fmt.Errorf("release %s: %w by %s; take it out of the configuration first", other.ID, ErrInUse, owner)
		}
	}
	inv.scanned = time.Time{}
	if err := inv.hardware.Isolate(at); err != nil {
		return Device{}, fmt.Errorf("release %s: %w", d.ID, err)
	}
	return d, nil
}
