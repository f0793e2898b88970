// Package nvme is the firmware of NVMe controllers, over the kernel's passthrough of admin commands.
//
// What can be read is the revision in each slot (log page 3), never the firmware itself: the strength
// is a version. All namespaces of a controller share it. Download puts an image into the controller's
// buffer, Commit into a slot: one that is neither running nor read-only, if there is one. Activation is
// immediate where the controller says that it can, else at its next reset.
//
// Source: NVM Express Base Specification 1.4: 5.11 Firmware Commit, 5.12 Firmware Image Download,
// 5.14.1.3 Firmware Slot Information, 5.15 Identify (OACS, FRMW, FWUG, MTFA); linux/nvme_ioctl.h.
package nvme

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/hw/firmware"
)

// Firmware is that of one controller.
type Firmware struct {
	admin admin
	// slot is what Activate takes: where Flash stored the image or what Select chose. 0 is none.
	slot int
}

var (
	_ firmware.Firmware = (*Firmware)(nil)
	_ firmware.Selecter = (*Firmware)(nil)
)

// Open opens a controller by its node, "/dev/nvme0".
func Open(node string) (*Firmware, error) {
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open NVMe controller %s: %w", node, err)
	}
	return &Firmware{admin: device{os.NewFile(uintptr(fd), node)}}, nil
}

// Close implements firmware.Firmware.
func (f *Firmware) Close() error { return f.admin.Close() }

// Inventory implements firmware.Firmware.
func (f *Firmware) Inventory(context.Context) ([]firmware.Component, error) {
	c, l, err := f.look()
	if err != nil {
		return nil, err
	}
	out := firmware.Component{Running: running(c, l)}
	for n := 1; n <= c.slots && n < len(l.revisions); n++ {
		out.Slots = append(out.Slots, firmware.Slot{
			Name: strconv.Itoa(n), Version: l.revisions[n],
			Active: n == l.active, Next: n == l.next, ReadOnly: n == 1 && c.readOnly1,
		})
	}
	if l.next != 0 {
		out.Stored = l.revisions[l.next]
	}
	return []firmware.Component{out}, nil
}

// ReadBack implements firmware.Firmware.
func (f *Firmware) ReadBack(context.Context) (firmware.Reading, error) {
	c, l, err := f.look()
	if err != nil {
		return firmware.Reading{}, err
	}
	r := firmware.Reading{Version: running(c, l), Strength: firmware.Version}
	if l.active != 0 {
		r.Slot = strconv.Itoa(l.active)
	}
	if l.next != 0 {
		r.Next = l.revisions[l.next]
	}
	if r.Version == "" {
		r.Strength = firmware.None
	}
	return r, nil
}

// running prefers Identify: it is what runs, while the log says what was stored where. After an
// interrupted download into the slot that runs the two differ.
func running(c controller, l slotLog) string {
	if c.revision != "" {
		return c.revision
	}
	return l.revisions[l.active]
}

func (f *Firmware) look() (controller, slotLog, error) {
	c, err := identify(f.admin)
	if err != nil {
		return c, slotLog{}, err
	}
	l, err := readSlots(f.admin)
	return c, l, err
}

// Flash implements firmware.Firmware.
func (f *Firmware) Flash(ctx context.Context, image io.ReaderAt, size int64, progress func(firmware.Progress)) error {
	c, l, err := f.look()
	if err != nil {
		return err
	}
	slot, err := c.target(l)
	if err != nil {
		return err
	}
	// Offsets and lengths are in dwords and 32 bits wide.
	if size <= 0 || size%4 != 0 || size > 1<<32 {
		return fmt.Errorf("%w: %d bytes, NVMe images are multiples of 4", firmware.ErrImage, size)
	}
	buffer := make([]byte, c.granularity)
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("download NVMe firmware: %w", err)
		}
		piece := buffer[:min(int64(len(buffer)), size-at)]
		if _, err := image.ReadAt(piece, at); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read firmware image: %w", err)
		}
		err := f.admin.submit(command{
			opcode: opDownload, cdw10: uint32(len(piece)/4 - 1), cdw11: uint32(at / 4), data: piece, timeout: passthroughTimeout,
		})
		if err != nil {
			return fmt.Errorf("download NVMe firmware at %d of %d: %w", at, size, refused(err))
		}
		at += int64(len(piece))
		if progress != nil {
			progress(firmware.Progress{Phase: "download", Done: at, Total: size})
		}
	}
	if err := f.commit(c, slot, replace); err != nil {
		return err
	}
	f.slot = slot
	return nil
}

// target is the slot to store into: the first that neither runs nor comes next, else any that can be
// written.
func (c controller) target(l slotLog) (int, error) {
	if !c.updates {
		return 0, fmt.Errorf("%w: the NVMe controller knows no firmware commands", firmware.ErrUnsupported)
	}
	writable := 0
	for n := 1; n <= c.slots; n++ {
		if n == 1 && c.readOnly1 {
			continue
		}
		if n != l.active && n != l.next {
			return n, nil
		}
		if writable == 0 || n != l.active {
			writable = n
		}
	}
	if writable == 0 {
		return 0, fmt.Errorf("%w: the NVMe controller's only firmware slot is read-only", firmware.ErrUnsupported)
	}
	return writable, nil
}

// Select implements firmware.Selecter.
func (f *Firmware) Select(_ context.Context, slot string) error {
	_, l, err := f.look()
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(slot)
	if err != nil || n < 1 || n >= len(l.revisions) || l.revisions[n] == "" {
		return fmt.Errorf("select NVMe firmware slot %q: it holds no firmware", slot)
	}
	f.slot = n
	return nil
}

// Activate implements firmware.Firmware.
func (f *Firmware) Activate(context.Context) (firmware.When, error) {
	if f.slot == 0 {
		return 0, errors.New("activate NVMe firmware: nothing was flashed or selected")
	}
	c, err := identify(f.admin)
	if err != nil {
		return 0, err
	}
	if c.immediate {
		err := f.commit(c, f.slot, activateNow)
		switch {
		case err == nil:
			return firmware.Now, nil
		case deferred(err):
			return firmware.AtReset, nil
		case !errors.Is(err, needsTime) && !errors.Is(err, activationRefused):
			return 0, err
		}
		// The controller can, but not with this image.
	}
	if err := f.commit(c, f.slot, activateAtReset); err != nil && !deferred(err) {
		return 0, err
	}
	return firmware.AtReset, nil
}

// deferred tells the statuses by which Commit says that it is done but for a reset.
func deferred(err error) bool {
	return errors.Is(err, needsReset) || errors.Is(err, needsSubsystem) || errors.Is(err, needsController)
}

// Commit actions.
const (
	replace         = 0 // downloaded image into the slot, not activated
	activateAtReset = 2 // what the slot holds
	activateNow     = 3
)

func (f *Firmware) commit(c controller, slot int, action uint32) error {
	err := f.admin.submit(command{opcode: opCommit, cdw10: uint32(slot) | action<<3, timeout: c.commit})
	if err != nil {
		return fmt.Errorf("commit NVMe firmware, slot %d, action %d: %w", slot, action, refused(err))
	}
	return nil
}

// refused marks the statuses that are about the image.
func refused(err error) error {
	if errors.Is(err, invalidImage) || errors.Is(err, overlappingRange) {
		return fmt.Errorf("%w: %w", firmware.ErrImage, err)
	}
	return err
}
