package log

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Magic starts both superblocks; a prober takes it for a disk of ours.
const Magic = "RATCHLOG"

const (
	formatVersion = 2
	superblocks   = 2
	headArea      = superblocks * BlockSize
	maxLabel      = 64

	// knownIncompat are the feature bits without which a disk must not be touched. None so far.
	knownIncompat = 0
)

// Area is a range of the disk in bytes.
type Area struct{ Off, Len int64 }

func (a Area) end() int64 { return a.Off + a.Len }

// Superblock describes a formatted disk.
type Superblock struct {
	Compat   uint64 // features an older version may ignore
	Incompat uint64 // features an older version must refuse
	UUID     [16]byte
	// Generation counts superblock writes; the higher of the two valid copies counts.
	Generation uint64
	// Epoch counts openings.
	Epoch uint64
	// Ring names the acknowledgement ring that the opening of this epoch uses, 0 for none that
	// outlives it: the epoch in which that ring was first used.
	Ring uint64
	// UserSize and Label belong to the owner: size in bytes and name of its volume.
	UserSize int64
	Label    string
	// Segment divides the log: no group crosses a multiple of it. In bytes.
	Segment    int64
	Checkpoint [2]Area
	Log        Area
}

// tag makes groups and checkpoints of an earlier format of the same disk invalid.
func (s *Superblock) tag() uint64 { return binary.LittleEndian.Uint64(s.UUID[:8]) }

func (s *Superblock) encode(p []byte) {
	clear(p[:BlockSize])
	le := binary.LittleEndian
	copy(p, Magic)
	le.PutUint32(p[8:], formatVersion)
	le.PutUint64(p[16:], s.Compat)
	le.PutUint64(p[24:], s.Incompat)
	copy(p[32:48], s.UUID[:])
	le.PutUint64(p[48:], s.Generation)
	le.PutUint64(p[56:], s.Epoch)
	le.PutUint64(p[64:], uint64(s.UserSize))
	le.PutUint64(p[72:], s.Ring)
	le.PutUint64(p[80:], uint64(s.Segment))
	for i, a := range []Area{s.Checkpoint[0], s.Checkpoint[1], s.Log} {
		le.PutUint64(p[88+16*i:], uint64(a.Off))
		le.PutUint64(p[96+16*i:], uint64(a.Len))
	}
	p[136] = byte(len(s.Label))
	copy(p[137:137+maxLabel], s.Label)
	le.PutUint32(p[12:], Checksum(p[:BlockSize])) // the field itself is still zero here
}

// parseSuperblock accepts exactly what encode writes on a disk of the given size.
func parseSuperblock(p []byte, size int64) (*Superblock, error) {
	if len(p) < BlockSize || string(p[:8]) != Magic {
		return nil, ErrNotFormatted
	}
	le := binary.LittleEndian
	if !validSum(p[:BlockSize], 12) {
		return nil, fmt.Errorf("superblock checksum: %w", errInvalid)
	}
	s := &Superblock{
		Compat: le.Uint64(p[16:]), Incompat: le.Uint64(p[24:]), UUID: [16]byte(p[32:48]),
		Generation: le.Uint64(p[48:]), Epoch: le.Uint64(p[56:]), UserSize: int64(le.Uint64(p[64:])),
		Ring: le.Uint64(p[72:]), Segment: int64(le.Uint64(p[80:])),
	}
	switch v := le.Uint32(p[8:]); {
	case v < formatVersion:
		return nil, fmt.Errorf("superblock version %d: %w", v, ErrOldFormat)
	case v > formatVersion || s.Incompat&^knownIncompat != 0:
		return nil, fmt.Errorf("superblock version %d, features %#x: %w", v, s.Incompat, ErrTooNew)
	case !validSegment(s.Segment):
		return nil, fmt.Errorf("superblock segment of %d bytes: %w", s.Segment, errInvalid)
	}
	end := int64(headArea)
	for i, a := range []*Area{&s.Checkpoint[0], &s.Checkpoint[1], &s.Log} {
		a.Off, a.Len = int64(le.Uint64(p[88+16*i:])), int64(le.Uint64(p[96+16*i:]))
		if a.Off != end || a.Len < 0 || a.Len%BlockSize != 0 || a.Len > size-a.Off {
			return nil, fmt.Errorf("superblock area %d: %w", i, errInvalid)
		}
		end = a.end()
	}
	if s.Log.Len < minSegments*s.Segment || s.Log.Len%s.Segment != 0 {
		return nil, fmt.Errorf("superblock log of %d bytes: %w", s.Log.Len, errInvalid)
	}
	n := int(p[136])
	if n > maxLabel || s.Checkpoint[0].Len < BlockSize || s.Checkpoint[1].Len < BlockSize || s.UserSize < 0 {
		return nil, fmt.Errorf("superblock label or sizes: %w", errInvalid)
	}
	s.Label = string(p[137 : 137+n])
	return s, nil
}

func validSegment(n int64) bool {
	return n >= minSegment && n <= MaxSegment && n&(n-1) == 0
}

// validSum checks the CRC-32C of p stored at off, computed with that field as zero.
func validSum(p []byte, off int) bool {
	return sumWithout(p, off) == binary.LittleEndian.Uint32(p[off:])
}

// sumWithout is the CRC-32C of p with the four bytes at off taken as zero.
func sumWithout(p []byte, off int) uint32 {
	var zero [4]byte
	return updateSum(updateSum(Checksum(p[:off]), zero[:]), p[off+4:])
}

// Probe reads the superblocks. It returns ErrNotFormatted for a disk that was never ours and
// another error for one whose superblocks are both damaged, too old or too new.
func Probe(d Disk) (*Superblock, error) {
	if d.Size() < headArea {
		return nil, ErrNotFormatted
	}
	p := AlignedBuffer(headArea)
	if _, err := d.ReadAt(p, 0); err != nil {
		return nil, fmt.Errorf("read superblocks: %w", err)
	}
	var best *Superblock
	worst := ErrNotFormatted
	for i := range superblocks {
		s, err := parseSuperblock(p[i*BlockSize:(i+1)*BlockSize], d.Size())
		switch {
		case err != nil && (errors.Is(worst, ErrNotFormatted) || errors.Is(err, ErrTooNew)):
			worst = err
		case err == nil && (best == nil || s.Generation > best.Generation):
			best = s
		}
	}
	// A newer version's copy outranks a valid older one: what it wrote after must not be undone.
	if best == nil || errors.Is(worst, ErrTooNew) {
		return nil, worst
	}
	return best, nil
}

// write makes s durable in the copy that does not hold the present one.
func (s *Superblock) write(d Disk) error {
	p := AlignedBuffer(BlockSize)
	s.encode(p)
	if _, err := d.WriteAt(p, int64(s.Generation%superblocks)*BlockSize); err != nil {
		return fmt.Errorf("write superblock: %w", err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync superblock: %w", err)
	}
	return nil
}
