package luks

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Device is where a volume lies. ReadAt and WriteAt are at bytes from its start.
type Device interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Header is what a volume says about itself; it holds no secret.
type Header struct {
	UUID, Label, Subsystem string
	// Stale is set when one copy is damaged or older than the other; Repair writes both again.
	Stale bool

	size     uint64 // of one copy
	sequence uint64
	meta     metadata
	segment  segment
	rand     io.Reader
}

// Read finds the newer of the two copies that are whole. The error wraps ErrNoHeader when there is none, and not when a
// copy may be there that cannot be read or is not supported: what has no header may be made anew.
func Read(r io.ReaderAt) (*Header, error) {
	first, none := readCopy(r, 0)
	var second *Header
	var problems []error
	if none != nil && !errors.Is(none, ErrNoHeader) {
		problems = append(problems, none)
	}
	// The first copy says where the second is; without it, the second is at one of a few places.
	for at := uint64(16 << 10); at <= maxCopy && second == nil; at *= 2 {
		if first != nil && at != first.size {
			continue
		}
		var err error
		if second, err = readCopy(r, at); err != nil && !errors.Is(err, ErrNoHeader) {
			problems = append(problems, err)
		}
	}
	switch {
	case first == nil && second == nil && problems != nil:
		return nil, errors.Join(problems...)
	case first == nil && second == nil:
		return nil, none
	case first == nil:
		second.Stale = true
		return second, nil
	case second == nil:
		first.Stale = true
		return first, nil
	}
	newer := first
	if second.sequence > first.sequence {
		newer = second
	}
	newer.Stale = first.sequence != second.sequence
	return newer, nil
}

func readCopy(r io.ReaderAt, at uint64) (*Header, error) {
	b, err := readBlock(r, at)
	if err != nil {
		return nil, err
	}
	m, s, err := parseMetadata(b.json, b.size)
	if err != nil {
		return nil, err
	}
	return &Header{
		UUID: b.uuid, Label: b.label, Subsystem: b.subsystem,
		size: b.size, sequence: b.sequence, meta: m, segment: s, rand: rand.Reader,
	}, nil
}

// Offset is where the data starts, in bytes.
func (h *Header) Offset() int64 { return int64(h.segment.Offset) }

// SectorSize is the unit that the data are encrypted in, in bytes.
func (h *Header) SectorSize() int { return h.segment.SectorSize }

// Token reads the first token of a type into a value; found is false when there is none.
func (h *Header) Token(kind string, into any) (found bool, err error) {
	_, _, raw := h.meta.token(kind)
	if raw == nil {
		return false, nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return true, fmt.Errorf("read token %s of volume %s: %w", kind, h.UUID, err)
	}
	return true, nil
}

// Repair writes both copies again, as they are.
func (h *Header) Repair(d Device) error { return h.commit(d, h.meta) }

// commit makes m valid. Power may fail anywhere: the copy with the highest sequence number that is whole
// counts, and until the second copy is whole that is the old first one.
func (h *Header) commit(d Device, m metadata) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write LUKS2 metadata: %w", err)
	}
	if uint64(len(text)) >= h.size-binarySize {
		return fmt.Errorf("write LUKS2 metadata: %d bytes do not fit the header", len(text))
	}
	b := block{size: h.size, sequence: h.sequence + 1, label: h.Label, uuid: h.UUID, subsystem: h.Subsystem, json: text}
	for _, at := range []uint64{h.size, 0} {
		salt := make([]byte, atUUID-atSalt)
		if _, err := io.ReadFull(h.rand, salt); err != nil {
			return fmt.Errorf("make salt: %w", err)
		}
		if _, err := d.WriteAt(b.encode(at, salt), int64(at)); err != nil {
			return fmt.Errorf("write LUKS2 header: %w", err)
		}
		if err := d.Sync(); err != nil {
			return fmt.Errorf("write LUKS2 header: %w", err)
		}
	}
	h.sequence, h.meta, h.Stale = b.sequence, m, false
	return nil
}
