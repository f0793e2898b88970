package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/ratchetos/ratchet/hw/firmware"
)

// SerialPrefix marks the disks that a development image takes for simulated devices.
const SerialPrefix = "SIM-"

// Medium is what the device lives on.
type Medium interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Options of Format. The zero value is a device with two slots of 1 MiB that activates at once and
// lets its firmware be hashed.
type Options struct {
	Model    string             // "sim" if empty
	Version  string             // of the firmware it leaves the factory with, "1.0" if empty
	Slots    int                // 2 if zero
	SlotSize int64              // 1 MiB if zero
	AtReset  bool               // Activate takes effect at the next power-on
	Strength *firmware.Strength // nil means a digest
	Lies     bool
	Fault    Fault
}

// Size is how much of a medium a device with these options takes.
func (o Options) Size() int64 {
	o = o.withDefaults()
	return slotsAt + int64(o.Slots)*o.SlotSize
}

func (o Options) withDefaults() Options {
	if o.Model == "" {
		o.Model = "sim"
	}
	if o.Version == "" {
		o.Version = "1.0"
	}
	if o.Slots == 0 {
		o.Slots = 2
	}
	if o.SlotSize == 0 {
		o.SlotSize = 1 << 20
	}
	if o.Strength == nil {
		o.Strength = new(firmware.Digest)
	}
	return o
}

// Format makes a device on m, with its first firmware in slot 0.
func Format(m Medium, o Options) error {
	o = o.withDefaults()
	s := &state{
		Model: o.Model, SlotSize: o.SlotSize, Slots: make([]slot, max(0, min(o.Slots, maxSlots+1))), Next: -1,
		AtReset: o.AtReset, Strength: *o.Strength, Lies: o.Lies, Fault: o.Fault,
	}
	if err := s.check(); err != nil {
		return fmt.Errorf("format simulated device: %w", err)
	}
	d := &Device{medium: m, state: s}
	if err := d.Tamper(0, Image(o.Model, o.Version, int(min(o.SlotSize, 128<<10)))); err != nil {
		return err
	}
	return s.save(m) // the second copy
}

// Device is an open device.
type Device struct {
	medium Medium
	closer io.Closer
	state  *state
	chosen int // by Flash or Select, for Activate; -1 none
}

var (
	_ firmware.Firmware = (*Device)(nil)
	_ firmware.Selecter = (*Device)(nil)
)

// Open opens the device in a file or on a disk. boot identifies the power-on: under another one than
// the last the device has been reset. The error wraps ErrNoDevice.
func Open(path, boot string) (*Device, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open simulated device: %w", err)
	}
	d, err := On(f, boot)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open simulated device %s: %w", path, err), f.Close())
	}
	d.closer = f
	return d, nil
}

// On is Open of a medium that the caller closes.
func On(m Medium, boot string) (*Device, error) {
	s, err := load(m)
	if err != nil {
		return nil, err
	}
	d := &Device{medium: m, state: s, chosen: -1}
	if s.Boot == boot {
		return d, nil
	}
	s.Boot = boot
	if s.Next >= 0 {
		s.Active, s.Next = s.Next, -1
	}
	return d, s.save(m)
}

// Close implements firmware.Firmware.
func (d *Device) Close() error {
	if d.closer == nil {
		return nil
	}
	return d.closer.Close()
}

// Model is the device's, which an image must name.
func (d *Device) Model() string { return d.state.Model }

func (d *Device) slotAt(n int) int64 { return slotsAt + int64(n)*d.state.SlotSize }

// Tamper puts an image into a slot behind everybody's back, as a programmer clipped to the chip does:
// neither is it checked nor does anything count it. A device that lies goes on telling what it had.
func (d *Device) Tamper(n int, image []byte) error {
	if n < 0 || n >= len(d.state.Slots) || int64(len(image)) > d.state.SlotSize {
		return fmt.Errorf("tamper with simulated device: %d bytes into slot %d of %d", len(image), n, len(d.state.Slots))
	}
	if _, err := d.medium.WriteAt(image, d.slotAt(n)); err != nil {
		return fmt.Errorf("tamper with simulated device: %w", err)
	}
	s := &d.state.Slots[n]
	had := *s
	s.Length = int64(len(image))
	if !d.state.Lies || had.Length == 0 {
		s.Digest = sha256.Sum256(image)
		_, s.Version, _ = describe(bytes.NewReader(image), s.Length) // what is no image has no version
	}
	return d.state.save(d.medium)
}

// SetFault arms or, with the zero value, disarms a fault.
func (d *Device) SetFault(f Fault) error {
	d.state.Fault = f
	return d.state.save(d.medium)
}

// read hashes a slot and finds its version: what the board holds, not what it remembers.
func (d *Device) read(n int) (slot, error) {
	had := d.state.Slots[n]
	if d.state.Lies || had.Length == 0 {
		return had, nil
	}
	content := io.NewSectionReader(d.medium, d.slotAt(n), had.Length)
	h := sha256.New()
	if _, err := io.Copy(h, content); err != nil {
		return slot{}, fmt.Errorf("read slot %d of simulated device: %w", n, err)
	}
	s := slot{Length: had.Length, Digest: [32]byte(h.Sum(nil))}
	_, s.Version, _ = describe(content, had.Length)
	return s, nil
}

// Inventory implements firmware.Firmware.
func (d *Device) Inventory(context.Context) ([]firmware.Component, error) {
	c := firmware.Component{}
	for n := range d.state.Slots {
		s, err := d.read(n)
		if err != nil {
			return nil, err
		}
		out := firmware.Slot{Name: strconv.Itoa(n), Active: n == d.state.Active, Next: n == d.state.Next}
		if d.state.Strength > firmware.None {
			out.Version = s.Version
		}
		if d.state.Strength == firmware.Digest && s.Length > 0 {
			out.Digest = s.Digest
		}
		if out.Active {
			c.Running = out.Version
		}
		if out.Next {
			c.Stored = out.Version
		}
		c.Slots = append(c.Slots, out)
	}
	return []firmware.Component{c}, nil
}

// ReadBack implements firmware.Firmware.
func (d *Device) ReadBack(ctx context.Context) (firmware.Reading, error) {
	if err := d.fault(ctx, Read); err != nil {
		return firmware.Reading{}, err
	}
	r := firmware.Reading{Slot: strconv.Itoa(d.state.Active), Strength: d.state.Strength}
	if r.Strength == firmware.None {
		return r, nil
	}
	s, err := d.read(d.state.Active)
	if err != nil {
		return firmware.Reading{}, err
	}
	if s.Length == 0 {
		return firmware.Reading{}, errors.New("read back simulated device: the slot it runs from is erased")
	}
	r.Version = s.Version
	if r.Strength == firmware.Digest {
		r.Digest = s.Digest
	}
	if n := d.state.Next; n >= 0 {
		r.Next = d.state.Slots[n].Version
	}
	return r, nil
}
