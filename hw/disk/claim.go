package disk

import (
	"errors"
	"fmt"
	"io"
	"unsafe"
)

// ErrForeign is wrapped when a disk holds somebody else's data.
var ErrForeign = errors.New("disk holds foreign data")

// ForeignError says what is on a disk that was to be claimed.
type ForeignError struct {
	Kind string // as Signature names it
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("claim disk: it holds %s; `ratchetctl hw claim DISK --erase` destroys that", e.Kind)
}

// Unwrap makes errors.Is(err, ErrForeign) true.
func (e *ForeignError) Unwrap() error { return ErrForeign }

// Device is the part of a block device, or of a file, that Claim needs.
type Device interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// edge is wiped at both ends: past every place where a format keeps its first mark, and past
// the backups that GPT, md and ZFS keep at the end.
const edge = 1 << 20

// Claim makes sure that a disk is free for a new owner. Without erase it fails with a
// *ForeignError when it finds a signature, and writes nothing. With erase it overwrites the
// places of signatures with zeros, flushes, and looks again, whether it knows what is there or not: an
// owner's own marks are no signature, nor is content that only the owner takes for foreign. It remembers
// nothing: what marks a disk as used is the data that its owner writes.
func Claim(d Device, size int64, erase bool) error {
	kind, err := Signature(d, size)
	switch {
	case err != nil:
		return fmt.Errorf("claim disk: %w", err)
	case !erase && kind != "":
		return &ForeignError{Kind: kind}
	case !erase:
		return nil
	}
	if err := wipe(d, size); err != nil {
		return fmt.Errorf("erase disk: %w", err)
	}
	switch kind, err = Signature(d, size); {
	case err != nil:
		return fmt.Errorf("erase disk: %w", err)
	case kind != "":
		return fmt.Errorf("erase disk: %s is still there after the wipe", kind)
	}
	return nil
}

// wipe zeroes both ends and the places in between where a second copy would make the old
// content look alive: the backups of btrfs and the secondary LUKS2 headers.
func wipe(d Device, size int64) error {
	spans := [][2]int64{{0, min(size, edge)}, {max(0, size&^4095-edge), size}}
	for _, offset := range []int64{1 << 20, 2 << 20, 4 << 20, 64 << 20, 256 << 30} {
		if offset+64<<10 <= size {
			spans = append(spans, [2]int64{offset, offset + 128<<10})
		}
	}
	zeros := Aligned(128 << 10)
	for _, s := range spans {
		for at := s[0]; at < min(s[1], size); {
			n := min(int64(len(zeros)), min(s[1], size)-at)
			if _, err := d.WriteAt(zeros[:n], at); err != nil {
				return err
			}
			at += n
		}
	}
	return d.Sync()
}

// Aligned allocates n bytes at an address that O_DIRECT accepts on every disk.
func Aligned(n int) []byte {
	const align = 4096
	buf := make([]byte, n+align)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(buf))) & (align - 1))
	return buf[skip : skip+n : skip+n]
}
