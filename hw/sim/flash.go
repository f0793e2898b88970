package sim

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/ratchetos/ratchet/hw/firmware"
)

// Point is a step of an operation at which a fault can be armed.
type Point string

// The points, in the order of an update.
const (
	Erase    Point = "erase"    // before the slot is erased
	Write    Point = "write"    // when half of the image is written
	Commit   Point = "commit"   // all is written, the slot still counts as erased
	Activate Point = "activate" // the image is stored, another slot runs
	Read     Point = "read"     // before firmware is read back
)

// Points are all of them.
func Points() []Point { return []Point{Erase, Write, Commit, Activate, Read} }

// Fault makes an operation stop at a point. The zero value is none.
type Fault struct {
	Point Point `json:"point,omitempty"`
	// Stall keeps the operation there until its context ends, for a test that cuts the power; without
	// it the operation fails.
	Stall bool `json:"stall,omitempty"`
}

// ErrFault is the error of an operation that an armed fault made fail.
var ErrFault = errors.New("the simulated device failed as it was told to")

func (d *Device) fault(ctx context.Context, at Point) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.state.Fault.Point != at {
		return nil
	}
	if d.state.Fault.Stall {
		<-ctx.Done()
		return ctx.Err()
	}
	return fmt.Errorf("%w: %s", ErrFault, at)
}

// piece is how much is written between two looks at the context.
const piece = 32 << 10

// Flash implements firmware.Firmware.
func (d *Device) Flash(ctx context.Context, image io.ReaderAt, size int64, progress func(firmware.Progress)) error {
	if size <= 0 || size > d.state.SlotSize {
		return fmt.Errorf("%w: %d bytes, a slot takes %d", firmware.ErrImage, size, d.state.SlotSize)
	}
	model, version, err := describe(image, size)
	if err != nil {
		return err
	}
	if model != d.state.Model {
		return fmt.Errorf("%w: it is for %s, this is %s", firmware.ErrImage, model, d.state.Model)
	}
	n := d.target()
	if err := d.fault(ctx, Erase); err != nil {
		return fmt.Errorf("flash simulated device: %w", err)
	}
	d.state.Slots[n] = slot{}
	if d.state.Next == n {
		d.state.Next = -1
	}
	if err := d.state.save(d.medium); err != nil {
		return err
	}
	digest, err := d.write(ctx, n, image, size, progress)
	if err != nil {
		return fmt.Errorf("flash simulated device: %w", err)
	}
	if err := d.fault(ctx, Commit); err != nil {
		return fmt.Errorf("flash simulated device: %w", err)
	}
	d.state.Slots[n] = slot{Length: size, Version: version, Digest: digest}
	d.chosen = n
	return d.state.save(d.medium)
}

// target is the slot to write: the one behind the running one, or the only one.
func (d *Device) target() int { return (d.state.Active + 1) % len(d.state.Slots) }

func (d *Device) write(ctx context.Context, n int, image io.ReaderAt, size int64, progress func(firmware.Progress)) ([32]byte, error) {
	h := sha256.New()
	buffer := make([]byte, piece)
	half := false
	for at := int64(0); at < size; {
		b := buffer[:min(piece, size-at)]
		if _, err := image.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
			return [32]byte{}, fmt.Errorf("read firmware image: %w", err)
		}
		if _, err := d.medium.WriteAt(b, d.slotAt(n)+at); err != nil {
			return [32]byte{}, err
		}
		h.Write(b)
		at += int64(len(b))
		if progress != nil {
			progress(firmware.Progress{Phase: "write", Done: at, Total: size})
		}
		if !half && at >= size/2 {
			half = true
			if err := d.fault(ctx, Write); err != nil {
				return [32]byte{}, err
			}
		}
		if err := ctx.Err(); err != nil {
			return [32]byte{}, err
		}
	}
	return [32]byte(h.Sum(nil)), d.medium.Sync()
}

// Select implements firmware.Selecter.
func (d *Device) Select(_ context.Context, name string) error {
	n, err := strconv.Atoi(name)
	if err != nil || n < 0 || n >= len(d.state.Slots) || d.state.Slots[n].Length == 0 {
		return fmt.Errorf("select slot %q of simulated device: it holds no firmware", name)
	}
	d.chosen = n
	return nil
}

// Activate implements firmware.Firmware.
func (d *Device) Activate(ctx context.Context) (firmware.When, error) {
	if d.chosen < 0 {
		return 0, errors.New("activate simulated device: nothing was flashed or selected")
	}
	if err := d.fault(ctx, Activate); err != nil {
		return 0, fmt.Errorf("activate simulated device: %w", err)
	}
	if d.state.AtReset {
		d.state.Next = d.chosen
		return firmware.AtReset, d.state.save(d.medium)
	}
	d.state.Active, d.state.Next = d.chosen, -1
	return firmware.Now, d.state.save(d.medium)
}
