package sim

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/ratchetos/ratchet/hw/firmware"
)

const (
	magic     = "RATSIM01"
	header    = len(magic) + 8
	copySize  = 4096
	slotsAt   = 64 << 10
	maxSlots  = 7
	maxSlot   = 64 << 20
	firstLine = "ratchet-sim-firmware"
)

// ErrNoDevice says that a medium holds no simulated device.
var ErrNoDevice = errors.New("there is no simulated device here")

// state is all that the device remembers besides its slots.
type state struct {
	Sequence uint64            `json:"sequence"`
	Model    string            `json:"model"`
	SlotSize int64             `json:"slot_size"`
	Slots    []slot            `json:"slots"`
	Active   int               `json:"active"`
	Next     int               `json:"next"` // -1: as it is
	AtReset  bool              `json:"at_reset"`
	Boot     string            `json:"boot"` // id of the power-on that last used it
	Strength firmware.Strength `json:"strength"`
	Lies     bool              `json:"lies"`
	Fault    Fault             `json:"fault"`
}

// slot is what the board knows of a slot: how much was committed, and what that was.
type slot struct {
	Length  int64    `json:"length"` // 0: erased
	Version string   `json:"version"`
	Digest  [32]byte `json:"digest"`
}

func (s *state) check() error {
	switch {
	case len(s.Slots) < 1 || len(s.Slots) > maxSlots:
		return fmt.Errorf("%d slots", len(s.Slots))
	case s.SlotSize < 1 || s.SlotSize > maxSlot:
		return fmt.Errorf("slots of %d bytes", s.SlotSize)
	case s.Active < 0 || s.Active >= len(s.Slots) || s.Next < -1 || s.Next >= len(s.Slots):
		return fmt.Errorf("slot %d runs and %d is next, of %d", s.Active, s.Next, len(s.Slots))
	}
	for i, sl := range s.Slots {
		if sl.Length < 0 || sl.Length > s.SlotSize {
			return fmt.Errorf("slot %d holds %d bytes", i, sl.Length)
		}
	}
	return nil
}

// encode makes one copy of the state, a whole block of the medium.
func (s *state) encode() ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if header+len(body) > copySize {
		return nil, fmt.Errorf("state of %d bytes", len(body))
	}
	b := make([]byte, copySize)
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[len(magic):], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[len(magic)+4:], checksum(body))
	copy(b[header:], body)
	return b, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// decode reads one copy. The error wraps ErrNoDevice.
func decode(b []byte) (*state, error) {
	if len(b) < header || string(b[:len(magic)]) != magic {
		return nil, ErrNoDevice
	}
	n := binary.LittleEndian.Uint32(b[len(magic):])
	if uint64(n) > uint64(len(b)-header) {
		return nil, fmt.Errorf("%w: state of %d bytes", ErrNoDevice, n)
	}
	body := b[header : header+int(n)]
	if checksum(body) != binary.LittleEndian.Uint32(b[len(magic)+4:]) {
		return nil, fmt.Errorf("%w: checksum differs", ErrNoDevice)
	}
	var s state
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoDevice, err)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoDevice, err)
	}
	return &s, nil
}

// load takes the newer of the two copies.
func load(m io.ReaderAt) (*state, error) {
	var newest *state
	var first error
	for n := range 2 {
		b := make([]byte, copySize)
		if _, err := m.ReadAt(b, int64(n)*copySize); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read simulated device: %w", err)
		}
		s, err := decode(b)
		if err != nil {
			first = errors.Join(first, err)
			continue
		}
		if newest == nil || s.Sequence > newest.Sequence {
			newest = s
		}
	}
	if newest == nil {
		return nil, first
	}
	return newest, nil
}

// save writes the copy that is older, so that the other one stands if this one is torn.
func (s *state) save(m Medium) error {
	s.Sequence++
	b, err := s.encode()
	if err == nil {
		_, err = m.WriteAt(b, int64(s.Sequence%2)*copySize)
	}
	if err == nil {
		err = m.Sync()
	}
	if err != nil {
		return fmt.Errorf("write simulated device: %w", err)
	}
	return nil
}
