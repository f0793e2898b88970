package boot

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

// GPT partition names, as the image builder writes them.
const (
	partLedger = "LEDGER"
	partState  = "STATE"
	partData   = "DATA"
	partESP    = "ESP-" // and the slot
)

// findLedger finds the boot disk and opens its LEDGER for reading; nil says why in the facts.
func (c *check) findLedger(ctx context.Context) Medium {
	missing := func(err error) Medium {
		c.facts.Ledger = verdict.LedgerFacts{Health: verdict.LedgerMissing, Detail: err.Error()}
		return nil
	}
	if err := c.findBootDisk(ctx); err != nil {
		return missing(err)
	}
	m, err := c.Open(c.disk.Ledger, true)
	if err != nil {
		return missing(err)
	}
	return m
}

// findBootDisk binds storage controllers one at a time until the disk shows up that the firmware
// loaded the image from; on a direct kernel boot, the first with a LEDGER. A controller that was
// tried for nothing is isolated again, and other disks behind the right one leave the kernel until
// the box is released.
func (c *check) findBootDisk(ctx context.Context) error {
	functions, err := c.Hardware.Functions()
	if err != nil {
		return fmt.Errorf("list controllers: %w", err)
	}
	c.builtIn(functions)
	err = c.tryControllers(ctx, hintFirst(functions, c.Controller), 1)
	if err != nil && c.rescue == nil && c.BootPart != "" {
		// The firmware has loaded the image from a disk, so there is one. USB does not tell when its scan is over, and
		// on a slow machine a stick shows up after everybody has stopped waiting.
		usb := slices.DeleteFunc(slices.Clone(functions), func(d hw.Device) bool { return d.Bus != "usb" })
		if again := c.tryControllers(ctx, usb, usbTries); again == nil || c.rescue != nil {
			err = again
		}
	}
	if err != nil && c.rescue != nil {
		// Now for the box's own disk: the first with a LEDGER, since nothing names it.
		err = c.tryControllers(ctx, functions, 1)
	}
	return err
}

// usbTries is how often a USB controller is waited for that shows no disk, a second or more each time.
const usbTries = 15

// waitForDisks binds a controller and asks again while it shows no disk.
func waitForDisks(ctx context.Context, bind func(context.Context, string) ([]hw.Device, error), place string, tries int) (disks []hw.Device, err error) {
	for ; tries > 0 && err == nil && len(disks) == 0; tries-- {
		disks, err = bind(ctx, place)
	}
	return disks, err
}

func (c *check) tryControllers(ctx context.Context, functions []hw.Device, tries int) error {
	var tried []string
	for _, f := range functions {
		if f.Kind != hw.Disk || !f.Supported {
			continue
		}
		disks, err := waitForDisks(ctx, c.Hardware.BindStorage, f.Place, tries)
		if err != nil {
			tried = append(tried, fmt.Sprintf("%s: %v", f.Place, err))
			continue
		}
		for _, d := range disks {
			found, err := c.isBootDisk(d)
			if err != nil {
				tried = append(tried, fmt.Sprintf("%s: %v", d.ID, err))
			}
			if found {
				c.Hardware.MarkBoot(d.Node)
				c.controller = f.Place
				if err := c.Hardware.HideOthers(f.Place, d.Node); err != nil {
					c.Say("warning: other disks stay beside the boot disk: %v", err)
				}
				return nil
			}
		}
		tried = append(tried, fmt.Sprintf("%s: %d disks, not the boot disk", f.Place, len(disks)))
		if err := c.Hardware.Isolate(f.Place); err != nil {
			c.Say("warning: %v", err)
		}
	}
	if len(tried) == 0 {
		return fmt.Errorf("there is no supported disk controller")
	}
	return fmt.Errorf("no boot disk among %d controllers (%s)", len(tried), strings.Join(tried, "; "))
}

// hintFirst puts the controller at a place before the others; the list itself stays as it is.
func hintFirst(functions []hw.Device, place string) []hw.Device {
	ordered := slices.Clone(functions)
	slices.SortStableFunc(ordered, func(a, b hw.Device) int {
		switch {
		case a.Place == place && b.Place != place:
			return -1
		case b.Place == place && a.Place != place:
			return 1
		}
		return 0
	})
	return ordered
}

func (c *check) isBootDisk(d hw.Device) (bool, error) {
	var slot string
	if c.BootPart != "" && c.rescue == nil {
		name, ok, err := c.Disks.Holds(d.Node, c.BootPart)
		if err != nil || !ok {
			return false, err
		}
		if name == partRescue {
			c.rescue = &stick{id: d.ID}
			return false, nil
		}
		if strings.HasPrefix(name, partESP) {
			slot = strings.TrimPrefix(name, partESP)
		}
	}
	parts, err := c.Disks.Partitions(d.Node)
	if err != nil || parts[partLedger] == "" {
		return false, err
	}
	c.slot, c.facts.Slot = slot, slot
	if c.rescue != nil {
		c.facts.Slot = partRescue // none of the box's own
	}
	var slots []verdict.DiskSlot
	if c.Slots != nil {
		if slots, err = c.Slots(d.Node, parts); err != nil {
			c.Say("warning: image slots: %v", err)
		}
	}
	c.disk = verdict.Disk{ID: d.ID, Node: d.Node, Ledger: parts[partLedger], State: parts[partState], Data: parts[partData], Slots: slots}
	return true, nil
}
