package boot

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

// partRescue is the only partition of a rescue stick. It is laid out as an image slot and holds the same image.
const partRescue = "RATCHET-RESCUE"

// stick is the rescue stick that the image was started from.
type stick struct {
	id  string            // of the disk
	box verdict.Judgement // on the box itself
}

// rescued replaces the verdict of a box that was started from a stick: what runs is the right image, but nothing of
// the box's own has led to it, so nothing is released. The slots of a box that is in order can be written.
func (c *check) rescued() {
	if c.rescue == nil {
		return
	}
	c.rescue.box = c.j
	c.fail("rescue", "the image was started from a rescue stick; the box itself: %s %s: %s", c.j.Decision, c.j.Code, c.j.Reason)
	c.j.Next = "in the recovery console: reflash A and reflash B, then take the stick out and reboot"
}

// inOrder is the judgement on the box itself, which attempts are opened under and which somebody may want to mend.
func (c *check) inOrder() *verdict.Judgement {
	if c.rescue != nil {
		return &c.rescue.box
	}
	return &c.j
}

// rescueImage gives the stick's own image to use. A stick may show another file now than the firmware read to start it;
// what is written still has to pass Secure Boot and bring a signed policy of its own, or it opens nothing.
func (o *operator) rescueImage(d hw.Device, slot verdict.DiskSlot, use func(image) error) (found bool, err error) {
	if d.ID != o.rescue.id {
		return false, errors.New("not the rescue stick")
	}
	parts, err := o.Disks.Partitions(d.Node)
	if err != nil {
		return true, err
	}
	r, err := o.OpenSlot(parts[partRescue])
	if err != nil {
		return true, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	file, _, err := esp.Find(r, r.Size())
	if err != nil {
		return true, fmt.Errorf("the stick's image: %w", err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return true, fmt.Errorf("read the stick's image: %w", err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return true, err
	}
	if most := slotVolume(slot).Capacity(); file.Size() > most {
		return true, fmt.Errorf("the stick's image has %d bytes, slot %s holds %d", file.Size(), slot.Name, most)
	}
	return true, use(image{
		Reader: file, name: o.Policy.Version + " from the rescue stick " + d.ID, length: file.Size(),
		content: ledger.OfImage(ledger.Digest(h.Sum(nil)), uint64(o.Policy.SecurityVersion)),
	})
}
