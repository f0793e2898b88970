package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/recovery"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

// SlotWriter is an image slot that may be written.
type SlotWriter interface {
	SlotReader
	io.WriterAt
	Sync() error
}

// image is a verified image to write, with what the ledger will say of it.
type image struct {
	io.Reader
	name    string // for people: version and where it came from
	length  int64
	content ledger.Content
}

// slots shows the image slots by their layout alone: reading them whole takes as long as a boot.
func (o *operator) slots() []recovery.Slot {
	if o.OpenSlot == nil {
		return nil
	}
	var out []recovery.Slot
	for _, d := range o.disk.Slots {
		s := recovery.Slot{Name: d.Name, State: "holds an image"}
		if d.Name == o.slot {
			s.State = "holds the image that runs"
		}
		switch err := o.slotLayout(d.Node); {
		case errors.Is(err, esp.ErrForeign):
			s.State, s.Bad = "bad, it holds no image", true
		case err != nil:
			s.State, s.Bad = "bad, "+err.Error(), true
		}
		if l := o.j.Ledger; !s.Bad && l != nil && l.Image(d.Name).Digest == (ledger.Digest{}) && len(l.Images) > 0 {
			s.State, s.Bad = "bad, its image is not the one that was written there", true
		}
		out = append(out, s)
	}
	return out
}

func (o *operator) slotLayout(node string) error {
	r, err := o.OpenSlot(node)
	if err != nil {
		return err
	}
	_, _, err = esp.Find(r, r.Size())
	return errors.Join(err, r.Close())
}

// Reflash implements recovery.Box. Nothing is written before the image is verified and the attempt counted.
func (o *operator) Reflash(ctx context.Context, name string, from []string) (string, error) {
	i := slices.IndexFunc(o.disk.Slots, func(d verdict.DiskSlot) bool { return d.Name == name })
	switch {
	case i < 0 && len(o.disk.Slots) == 0:
		return "", errors.New("the boot disk and its image slots were not found")
	case i < 0:
		return "", fmt.Errorf("there is no slot %s", name)
	case name == o.slot:
		return "", fmt.Errorf("slot %s is the one that runs; start the other one, or a rescue stick, to write it", name)
	case o.EditSlot == nil:
		return "", errors.New("slots cannot be written here")
	}
	var done string
	write := func(img image) (err error) {
		done, err = o.fill(ctx, o.disk.Slots[i], img)
		return err
	}
	if len(from) > 0 {
		err := o.overNetwork(ctx, from, o.disk.Slots[i], write)
		return done, err
	}
	source := o.bundleOnStick
	if o.rescue != nil {
		source = o.rescueImage
	}
	err := o.withSticks(ctx, func(d hw.Device) (bool, error) { return source(d, o.disk.Slots[i], write) })
	return done, err
}

// bundleOnStick gives the image of the bundle on a disk to use. found says that there is one.
func (o *operator) bundleOnStick(d hw.Device, slot verdict.DiskSlot, use func(image) error) (found bool, err error) {
	if o.Sticks == nil {
		return false, ErrNoBundle
	}
	f, where, err := o.Sticks.Bundle(d.Node)
	if errors.Is(err, ErrNoBundle) {
		return false, err
	}
	if err != nil {
		return true, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return true, o.useBundle(f, where, slot, use)
}

// useBundle verifies all of a bundle before its image is used.
func (o *operator) useBundle(f io.ReadSeeker, where string, slot verdict.DiskSlot, use func(image) error) error {
	keys, err := bundle.ParseKeys(o.Policy.BundleKeys)
	if err != nil {
		return err
	}
	img, err := o.openBundle(f, keys, slot)
	if err == nil { // all of it, before anything is counted
		_, err = io.Copy(io.Discard, img)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		img, err = o.openBundle(f, keys, slot)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	img.name += " from " + where
	return use(img)
}

// publishedWith looks for the firmware that a device has in the signed manifest of an update on a USB stick. It
// returns who vouches for it.
func (o *operator) publishedWith(ctx context.Context, d verdict.Observed) (by string, err error) {
	keys, err := bundle.ParseKeys(o.Policy.BundleKeys)
	if err != nil {
		return "", err
	}
	if o.Sticks == nil {
		return "", ErrNoBundle
	}
	err = o.withSticks(ctx, func(stick hw.Device) (bool, error) {
		f, _, err := o.Sticks.Bundle(stick.Node)
		if err != nil {
			return !errors.Is(err, ErrNoBundle), err
		}
		b, err := bundle.Open(f, keys)
		if err = errors.Join(err, f.Close()); err != nil {
			return true, err
		}
		for _, known := range b.Manifest.Firmware {
			if known.Kind == d.Kind && known.Model == d.Model && published(known).Matches(d.Content) {
				by = "known good firmware by the manifest of " + b.Manifest.Version
				return true, nil
			}
		}
		return true, fmt.Errorf("the manifest of %s does not list %s %s with %s", b.Manifest.Version, d.Kind, d.Model, d.Content)
	})
	return by, err
}

// published is what a device with this firmware reads back as: its digest where the manifest has one.
func published(f bundle.Firmware) ledger.Content {
	if f.Digest != (bundle.Digest{}) {
		return ledger.OfDigest(ledger.Digest(f.Digest))
	}
	return ledger.Content{Strength: ledger.StrengthVersion, Version: f.Version}
}

// openBundle verifies what stands in front of the image.
func (o *operator) openBundle(r io.Reader, keys bundle.Keys, slot verdict.DiskSlot) (image, error) {
	b, err := bundle.Open(r, keys)
	if err != nil {
		return image{}, err
	}
	m := b.Manifest
	err = m.Check(bundle.Box{
		Flavour: o.Policy.Flavour, Arch: "x86_64", Development: o.Policy.Development, Floor: o.facts.TPM.Floor,
		Slot: slotVolume(slot).Capacity(),
	})
	if err != nil {
		return image{}, err
	}
	uki, err := b.UKI()
	return image{
		Reader: uki, name: m.Version, length: m.UKI.Length,
		content: ledger.OfImage(ledger.Digest(m.UKI.SHA256), uint64(m.SecurityVersion)),
	}, err
}

func slotVolume(d verdict.DiskSlot) esp.Volume {
	return esp.Volume{Size: int64(d.Sectors) * 512, Hidden: uint32(d.Start), Label: partESP + d.Name}
}

// fill writes an image into a slot as one attempt and reads it back from the medium.
func (o *operator) fill(ctx context.Context, d verdict.DiskSlot, img image) (string, error) {
	intent := ledger.Intent{Target: ledger.SlotTarget(d.Name), To: img.content, Signer: signerConsole}
	if l := o.inOrder().Ledger; l != nil {
		was := l.Image(d.Name)
		intent.From = ledger.OfImage(was.Digest, was.Version)
	}
	n, err := o.attempt(ctx, intent)
	if err != nil {
		return "", fmt.Errorf("count the attempt: %w", err)
	}
	o.Say("attempt %d: writing image %s into slot %s", n, img.name, d.Name)
	w, err := o.EditSlot(d.Node)
	if err != nil {
		return "", err
	}
	defer w.Close()
	if err := esp.Write(w, slotVolume(d), &proven{img.Reader, img.length}, img.length); err != nil {
		return "", fmt.Errorf("slot %s was not written whole and does not start; try again: %w", d.Name, err)
	}
	got, err := esp.Read(w, w.Size())
	if err != nil {
		return "", fmt.Errorf("read slot %s back: %w", d.Name, err)
	}
	if ledger.Digest(got.SHA256) != img.content.Digest {
		return "", fmt.Errorf("slot %s reads back other bytes; replace the boot disk", d.Name)
	}
	return fmt.Sprintf("slot %s holds image %s now (attempt %d)", d.Name, img.name, n), nil
}

// proven holds the last bytes of an image back until its reader has compared the digest at the end: the slot then
// never gets the boot sector that would start an image which is not what its bundle says.
type proven struct {
	io.Reader
	left int64
}

// Read implements io.Reader.
func (p *proven) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if p.left -= int64(n); p.left > 0 || err != nil {
		return n, err
	}
	switch more, err := p.Reader.Read(make([]byte, 1)); {
	case more > 0:
		return 0, errors.New("the image is longer than its bundle says")
	case err != nil && !errors.Is(err, io.EOF):
		return 0, err
	}
	return n, nil
}
