package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	diskfs "github.com/diskfs/go-diskfs"
	godisk "github.com/diskfs/go-diskfs/disk"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/uuid"

	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/luks"
)

// Partition names; boot and hw find partitions by them.
const (
	ESPA   = "ESP-A"
	ESPB   = "ESP-B"
	Ledger = "LEDGER"
	State  = "STATE"
	Data   = "DATA"
)

// DefaultSize is the size of the disk image in bytes.
const DefaultSize = 768 * mib

const (
	mib    = 1 << 20
	sector = 512

	espSize    = 96 * mib // not 64: see the package comment
	ledgerSize = 4 * mib
	stateSize  = 128 * mib
	dataMin    = 16 * mib
	// firstByte leaves room for the table and aligns to any flash erase block; the last MiB
	// holds the backup table.
	firstByte = 1 * mib
)

// SlotCapacity is the size of the largest image, in bytes; the rest of a slot is room to grow into.
const SlotCapacity = espSize * 9 / 10

// MinSize is the smallest disk the layout fits on.
const MinSize = firstByte + 2*espSize + ledgerSize + stateSize + dataMin + mib

// Options of a disk image.
type Options struct {
	UKI    []byte // written to both slots
	Config []byte // first configuration, into the LEDGER; nil: the one baked into the image
	Size   int64  // bytes, a multiple of 1 MiB; 0 for DefaultSize
}

// Partition is one entry of the layout.
type Partition struct {
	Name        string
	Start, Size int64 // bytes
	Type        gpt.Type
}

// namespace is the root of all GUIDs of the layout.
var namespace = uuid.MustParse("6f6e5a1c-5b0e-4c3c-9a53-7d5f0f2b9a77")

// guid derives a GUID from a name, always the same.
func guid(name string) uuid.UUID { return uuid.NewSHA1(namespace, []byte(name)) }

// Layout returns the partitions of a disk of the given size.
func Layout(size int64) ([]Partition, error) {
	if size < MinSize || size%mib != 0 {
		return nil, fmt.Errorf("disk of %d bytes: must be a multiple of 1 MiB and at least %d MiB", size, MinSize/mib)
	}
	parts := []Partition{
		{Name: ESPA, Size: espSize, Type: gpt.EFISystemPartition},
		{Name: ESPB, Size: espSize, Type: gpt.EFISystemPartition},
		{Name: Ledger, Size: ledgerSize, Type: gpt.Type(guid("type " + Ledger).String())},
		{Name: State, Size: stateSize, Type: gpt.LinuxLUKS},
		{Name: Data, Type: gpt.Type(guid("type " + Data).String())},
	}
	at := int64(firstByte)
	for i := range parts {
		parts[i].Start = at
		at += parts[i].Size
	}
	parts[len(parts)-1].Size = size - mib - at
	return parts, nil
}

// Write makes the disk image at path, replacing a file that is there. A failed write leaves
// nothing behind.
func Write(path string, o Options) (err error) {
	if o.Size == 0 {
		o.Size = DefaultSize
	}
	parts, err := Layout(o.Size)
	if err != nil {
		return err
	}
	if n := int64(len(o.UKI)); n == 0 || n > SlotCapacity {
		return fmt.Errorf("write disk: image of %d bytes does not fit a slot of %d MiB", n, espSize/mib)
	}
	// Beside the target, so that the rename is atomic; go-diskfs insists on making the file.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".disk-")
	if err != nil {
		return fmt.Errorf("write disk: %w", err)
	}
	defer os.RemoveAll(dir)
	tmp := filepath.Join(dir, "disk.img")
	if err := write(tmp, o, parts); err != nil {
		return fmt.Errorf("write disk: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write disk: %w", err)
	}
	return nil
}

func write(path string, o Options, parts []Partition) (err error) {
	d, err := diskfs.Create(path, o.Size, diskfs.SectorSize512)
	if err != nil {
		return fmt.Errorf("create image: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Partition(table(parts)); err != nil {
		return fmt.Errorf("partition: %w", err)
	}
	for _, p := range parts {
		switch p.Name {
		case ESPA, ESPB:
			err = writeESP(d, p, o.UKI)
		case Ledger:
			err = writeLedger(d, p, o.Config)
		case State, Data:
			err = blank(d, p)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return nil
}

func table(parts []Partition) *gpt.Table {
	t := &gpt.Table{GUID: guid("disk").String(), ProtectiveMBR: true, LogicalSectorSize: sector, PhysicalSectorSize: sector}
	for i, p := range parts {
		t.Partitions = append(t.Partitions, &gpt.Partition{
			Index: i + 1,
			Name:  p.Name,
			Start: uint64(p.Start / sector),
			Size:  uint64(p.Size),
			Type:  p.Type,
			GUID:  guid(p.Name).String(),
		})
	}
	return t
}

// writeESP makes a FAT32 that holds the image and nothing else.
func writeESP(d *godisk.Disk, p Partition, image []byte) error {
	w, err := d.Backend.Writable()
	if err != nil {
		return err
	}
	v := esp.Volume{Size: p.Size, Hidden: uint32(p.Start / sector), Label: p.Name}
	return esp.Write(io.NewOffsetWriter(w, p.Start), v, bytes.NewReader(image), int64(len(image)))
}

// writeLedger puts the LEDGER into its factory state.
func writeLedger(d *godisk.Disk, p Partition, config []byte) error {
	w, err := d.Backend.Writable()
	if err != nil {
		return err
	}
	return ledger.Format(io.NewOffsetWriter(w, p.Start), config)
}

// blank makes sure that no volume of before is found: a disk is flashed without the holes of the file.
func blank(d *godisk.Disk, p Partition) error {
	w, err := d.Backend.Writable()
	if err != nil {
		return err
	}
	_, err = w.WriteAt(make([]byte, luks.HeaderSize), p.Start)
	return err
}
