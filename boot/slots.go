package boot

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// SlotReader is an open image slot.
type SlotReader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

func openSlot(node string) (SlotReader, error) { return slot.OpenDevice(node, false) }

func editSlot(node string) (SlotWriter, error) { return slot.OpenDevice(node, true) }

// readImages reads back the image slots that decide something, side by side with the devices: hashing an image
// takes as long as all of them. The result is ready when the channel gives it.
func (c *check) readImages() <-chan []verdict.SlotContent {
	done := make(chan []verdict.SlotContent, 1)
	wanted := c.j.ImagesToRead()
	if len(wanted) == 0 || len(c.disk.Slots) == 0 || c.OpenSlot == nil {
		done <- nil
		return done
	}
	go func() {
		var out []verdict.SlotContent
		for _, name := range wanted {
			s := verdict.SlotContent{Slot: name}
			p := guarded(func() {
				image, err := c.readImage(name)
				if err != nil {
					s.Err = err.Error()
				}
				s.Digest = ledger.Digest(image.SHA256)
			})
			if p != nil {
				s.Err = fmt.Sprint(p)
			}
			if s.Err != "" {
				s.Digest = ledger.Digest{}
			}
			out = append(out, s)
		}
		done <- out
	}()
	return done
}

func (c *check) readImage(name string) (esp.Image, error) {
	i := slices.IndexFunc(c.disk.Slots, func(s verdict.DiskSlot) bool { return s.Name == name })
	if i < 0 {
		return esp.Image{}, fmt.Errorf("the boot disk has no partition %s%s", partESP, name)
	}
	r, err := c.OpenSlot(c.disk.Slots[i].Node)
	if err != nil {
		return esp.Image{}, err
	}
	image, err := esp.Read(r, r.Size())
	return image, errors.Join(err, r.Close())
}

// firmwareSlots are the slots as boot entries name them.
func firmwareSlots(disk verdict.Disk) slot.Slots {
	s := slot.Slots{}
	for _, d := range disk.Slots {
		s[d.Name] = slot.Place{GUID: d.GUID, Number: d.Number, Start: d.Start, Size: d.Sectors}
	}
	return s
}

// badSlots are those that no boot order should name.
func badSlots(images []verdict.Image) map[string]bool {
	bad := map[string]bool{}
	for _, i := range images {
		bad[i.Slot] = i.Decision != verdict.Released
	}
	return bad
}

// begin counts the boot before anything can go wrong. why is set when the box should stop in the recovery console;
// with restart the firmware was told to start the other slot.
func (c *console) begin(f slot.Firmware, bootPart string) (why string, restart bool) {
	count, step, err := f.Begin(bootPart)
	if err != nil {
		c.say("warning: count this boot: %v", err)
	}
	switch step {
	case slot.Switch:
		c.say("%d boots without a healthy one: starting the other image slot", count)
		return "", true
	case slot.Recover:
		c.failing = true
		return fmt.Sprintf("%d boots without a healthy one, in both slots", count), false
	case slot.Continue:
	}
	if count > 1 {
		c.say("boot %d since the last healthy one", count)
	}
	return "", false
}

// attended is for an end that somebody asked for at the console: the slots get all their tries again.
func (c *console) attended(f slot.Firmware) {
	if !c.failing {
		return
	}
	if err := f.SetCount(0); err != nil {
		c.say("warning: %v", err)
	}
}

// repairEntries makes sure that the firmware can start both slots. Only a released box does: on an isolated one the
// disk is not believed.
func (c *console) repairEntries(f slot.Firmware, r verdict.Report) {
	if r.Box.Decision != verdict.Released || r.Slot == "" || len(r.BootDisk.Slots) == 0 {
		return
	}
	repaired, err := f.Repair(firmwareSlots(r.BootDisk), r.Slot, badSlots(r.Images))
	switch {
	case err != nil:
		c.say("warning: the firmware may not find both image slots: %v", err)
	case repaired:
		c.say("boot entries of the image slots repaired")
	}
}
