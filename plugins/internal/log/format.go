package log

import (
	"fmt"
)

// FormatOptions lay out a disk.
type FormatOptions struct {
	UUID [16]byte
	// LogSize and CheckpointSize are in bytes; each is rounded up to whole blocks. What is left
	// of the disk is the data area.
	LogSize, CheckpointSize int64
	UserSize                int64
	Label                   string
	// FirstSeq is the sequence number of the first group, for a log that continues a
	// history kept elsewhere. 0 means 1.
	FirstSeq uint64
	// State is the first checkpoint's.
	State []byte
}

// unfinished starts a disk while Format is at work on it.
const unfinished = "RATCHFMT"

// Unfinished reports whether a Format of d was cut short: the disk holds nothing yet and is ours
// to format again.
func Unfinished(d Disk) (bool, error) {
	p := AlignedBuffer(BlockSize)
	if _, err := d.ReadAt(p, 0); err != nil {
		return false, fmt.Errorf("read superblock: %w", err)
	}
	return string(p[:len(unfinished)]) == unfinished, nil
}

// Format makes a disk ours and destroys what was on it. A crash in between leaves it as it was,
// Unfinished, or formatted.
func Format(d Disk, o FormatOptions) (*Superblock, error) {
	s := &Superblock{UUID: o.UUID, UserSize: o.UserSize, Label: o.Label, Generation: 1}
	if len(o.Label) > maxLabel {
		return nil, fmt.Errorf("format: label of %d bytes, at most %d", len(o.Label), maxLabel)
	}
	off := int64(headArea)
	for _, a := range []struct {
		area *Area
		n    int64
	}{{&s.Checkpoint[0], o.CheckpointSize + BlockSize}, {&s.Checkpoint[1], o.CheckpointSize + BlockSize}, {&s.Log, max(o.LogSize, MinLogSize)}} {
		*a.area = Area{off, roundUp(a.n)}
		off = a.area.end()
	}
	size := d.Size() &^ (BlockSize - 1)
	if off > size {
		return nil, fmt.Errorf("format: disk of %d bytes, need at least %d: %w", d.Size(), off, ErrTooLarge)
	}
	s.Data = Area{off, size - off}

	// Old superblocks go first: until the new ones are whole the disk must not look formatted.
	p := AlignedBuffer(headArea)
	copy(p, unfinished)
	if _, err := d.WriteAt(p, 0); err != nil {
		return nil, fmt.Errorf("format: wipe superblocks: %w", err)
	}
	if err := d.Sync(); err != nil {
		return nil, fmt.Errorf("format: sync: %w", err)
	}
	for i := range s.Checkpoint {
		c := checkpoint{generation: uint64(i), tail: Cursor{Seq: max(o.FirstSeq, 1)}, state: o.State}
		c.durable = c.tail.Seq - 1
		if err := c.write(d, s); err != nil {
			return nil, fmt.Errorf("format: %w", err)
		}
	}
	if err := d.Sync(); err != nil {
		return nil, fmt.Errorf("format: sync: %w", err)
	}
	if err := s.write(d); err != nil {
		return nil, fmt.Errorf("format: %w", err)
	}
	return s, nil
}
