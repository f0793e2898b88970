package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/fetch"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

// beside is what a bundle may hold beside the image: manifest, signatures, bill of materials.
const beside = 16 << 20

// overNetwork gives the image of a bundle to use that comes over the quarantine NIC. All of it is in memory and
// verified before anything is counted, and the NIC is off again before anything is written.
func (o *operator) overNetwork(ctx context.Context, args []string, slot verdict.DiskSlot, use func(image) error) error {
	from, err := fetch.Parse(args)
	switch {
	case err != nil:
		return err
	case o.Policy.QuarantineNIC == "":
		return errors.New("this image's policy leaves no NIC for recovery (image build --quarantine-nic); use a USB stick")
	case o.Fetch == nil:
		return errors.New("there is no network here; use a USB stick")
	}
	fd, err := unix.MemfdCreate("bundle", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("get memory for the update: %w", err)
	}
	f := os.NewFile(uintptr(fd), "bundle")
	defer f.Close()
	o.Say("fetching %s over %s", from.URL, o.Policy.QuarantineNIC)
	err = o.withQuarantineNIC(ctx, func(link string) error {
		return o.Fetch(ctx, link, from, slotVolume(slot).Capacity()+beside, f)
	})
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the update: %w", err)
	}
	return o.useBundle(f, from.URL.String(), slot, use)
}

// withQuarantineNIC binds the one NIC of the policy for as long as use takes.
func (c *check) withQuarantineNIC(ctx context.Context, use func(link string) error) (err error) {
	place := c.Policy.QuarantineNIC
	devices, err := c.Hardware.Bind(ctx, place)
	if err != nil {
		return fmt.Errorf("bind the quarantine NIC: %w", err)
	}
	if c.seen == nil { // nobody had looked at it yet
		defer func() { err = errors.Join(err, c.Hardware.Isolate(place)) }()
	}
	i := slices.IndexFunc(devices, func(d hw.Device) bool { return d.Kind == hw.NIC && d.Node != "" })
	if i < 0 {
		return fmt.Errorf("there is no NIC at %s, where the image's policy has it", place)
	}
	return use(devices[i].Node)
}
