package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	diskfs "github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/ratchetos/ratchet/boot/esp"
)

// Rescue is the only partition of a rescue stick. init knows by the name that it was started from one, releases
// nothing, and offers to write the image slots of the box's own disk.
const Rescue = "RATCHET-RESCUE"

// rescueSize is that of the whole stick's image: a slot, and the two copies of the table.
const rescueSize = firstByte + espSize + mib

// WriteRescue makes the image of a rescue stick at path, replacing a file that is there. It holds the same UKI as the
// box, so that the firmware starts it under the same keys. A failed write leaves nothing behind.
func WriteRescue(path string, uki []byte) error {
	if most := (esp.Volume{Size: espSize}).Capacity(); len(uki) == 0 || int64(len(uki)) > most {
		return fmt.Errorf("write rescue stick: image of %d bytes, at most %d", len(uki), most)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".rescue-")
	if err != nil {
		return fmt.Errorf("write rescue stick: %w", err)
	}
	defer os.RemoveAll(dir)
	tmp := filepath.Join(dir, "rescue.img")
	if err := writeRescue(tmp, uki); err != nil {
		return fmt.Errorf("write rescue stick: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write rescue stick: %w", err)
	}
	return nil
}

func writeRescue(path string, uki []byte) (err error) {
	d, err := diskfs.Create(path, rescueSize, diskfs.SectorSize512)
	if err != nil {
		return fmt.Errorf("create image: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	p := Partition{Name: Rescue, Start: firstByte, Size: espSize, Type: gpt.EFISystemPartition}
	t := table([]Partition{p})
	t.GUID = guid("rescue stick").String()
	if err := d.Partition(t); err != nil {
		return fmt.Errorf("partition: %w", err)
	}
	w, err := d.Backend.Writable()
	if err != nil {
		return err
	}
	v := esp.Volume{Size: p.Size, Hidden: uint32(p.Start / sector), Label: "RESCUE"}
	return esp.Write(io.NewOffsetWriter(w, p.Start), v, bytes.NewReader(uki), int64(len(uki)))
}
