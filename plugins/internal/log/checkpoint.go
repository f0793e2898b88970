package log

import (
	"encoding/binary"
	"fmt"
)

const checkpointMagic = 0x504b4352 // "RCKP"

// Cursor is a place between two groups of the log.
type Cursor struct {
	Pos  int64  // where the next group starts
	Seq  uint64 // its sequence number
	Prev uint32 // header checksum of the group before it
}

// checkpoint is the owner's state together with the place in the log from which replay brings it up to date.
type checkpoint struct {
	generation uint64
	tail       Cursor
	durable    uint64 // highest durable sequence number when it was written
	state      []byte
}

func (c *checkpoint) encode(p []byte, tag uint64) {
	clear(p[:BlockSize])
	le := binary.LittleEndian
	le.PutUint32(p[0:], checkpointMagic)
	le.PutUint64(p[8:], tag)
	le.PutUint64(p[16:], c.generation)
	le.PutUint64(p[24:], uint64(c.tail.Pos))
	le.PutUint64(p[32:], c.tail.Seq)
	le.PutUint32(p[40:], c.tail.Prev)
	le.PutUint64(p[48:], c.durable)
	le.PutUint64(p[56:], uint64(len(c.state)))
	le.PutUint32(p[64:], Checksum(c.state))
	le.PutUint32(p[4:], Checksum(p[:BlockSize]))
	copy(p[BlockSize:], c.state)
}

// parseCheckpoint reads the header page and returns the checkpoint without its state, the
// state's length and its checksum.
func parseCheckpoint(p []byte, tag uint64, area int64) (*checkpoint, int64, uint32, error) {
	le := binary.LittleEndian
	if len(p) < BlockSize || le.Uint32(p) != checkpointMagic || le.Uint64(p[8:]) != tag || !validSum(p[:BlockSize], 4) {
		return nil, 0, 0, fmt.Errorf("checkpoint header: %w", errInvalid)
	}
	c := &checkpoint{
		generation: le.Uint64(p[16:]), durable: le.Uint64(p[48:]),
		tail: Cursor{Pos: int64(le.Uint64(p[24:])), Seq: le.Uint64(p[32:]), Prev: le.Uint32(p[40:])},
	}
	n := int64(le.Uint64(p[56:]))
	if n < 0 || n > area-BlockSize || c.tail.Pos < 0 || c.tail.Pos%BlockSize != 0 || c.tail.Seq == 0 {
		return nil, 0, 0, fmt.Errorf("checkpoint %d: sizes: %w", c.generation, errInvalid)
	}
	return c, n, le.Uint32(p[64:]), nil
}

// readCheckpoint returns the checkpoint of one area, or nil when there is no valid one.
func readCheckpoint(d Disk, a Area, tag uint64) (*checkpoint, error) {
	page := AlignedBuffer(BlockSize)
	if _, err := d.ReadAt(page, a.Off); err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	c, n, sum, err := parseCheckpoint(page, tag, a.Len)
	if err != nil {
		return nil, nil
	}
	state := AlignedBuffer(int(roundUp(n)))
	if len(state) > 0 {
		if _, err := d.ReadAt(state, a.Off+BlockSize); err != nil {
			return nil, fmt.Errorf("read checkpoint: %w", err)
		}
	}
	c.state = state[:n]
	if Checksum(c.state) != sum {
		return nil, nil
	}
	return c, nil
}

// newestCheckpoint picks the later of the two. One is always valid: they are written in turn.
func newestCheckpoint(d Disk, s *Superblock) (*checkpoint, error) {
	var best *checkpoint
	for _, a := range s.Checkpoint {
		c, err := readCheckpoint(d, a, s.tag())
		if err != nil {
			return nil, err
		}
		if c != nil && (best == nil || c.generation > best.generation) {
			best = c
		}
	}
	if best == nil {
		return nil, fmt.Errorf("both checkpoints: %w", ErrMediaCorrupt)
	}
	return best, nil
}

func (c *checkpoint) write(d Disk, s *Superblock) error {
	a := s.Checkpoint[c.generation%2]
	n := BlockSize + roundUp(int64(len(c.state)))
	if n > a.Len {
		return fmt.Errorf("checkpoint of %d bytes: %w", len(c.state), ErrTooLarge)
	}
	p := AlignedBuffer(int(n))
	c.encode(p, s.tag())
	if _, err := d.WriteAt(p, a.Off); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}
