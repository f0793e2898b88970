package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Medium is the partition, or a file that stands in for it. Sync makes earlier writes durable, and
// later reads come from the medium.
type Medium interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

const (
	// Size of the partition in bytes.
	Size = 4 << 20
	// RingSize is the number of intents that fit; MaxOpen of them may be open.
	RingSize = 1024
	// MaxOpen leaves room for the intent of an attempt that was cut off before it counted.
	MaxOpen = 1000
	// MaxConfig is the largest configuration, in bytes.
	MaxConfig = 512 << 10

	superOffset = 0x000000
	superCopy   = Size - 0x1000
	slotOffset  = 0x010000
	slotSize    = 0x040000
	ringOffset  = 0x100000
	entrySize   = 1024
	confOffset  = 0x200000
	confStride  = 0x100000
)

// Store is the partition. The zero Store is not usable; see Open.
type Store struct{ m Medium }

// Open does no I/O.
func Open(m Medium) *Store { return &Store{m} }

// Slot is one ledger slot: a ledger and its digest, or why there is none (ErrEmpty, ErrCorrupt, ErrNewer).
type Slot struct {
	Ledger *Ledger
	Digest Digest
	Err    error
}

// ConfigSlot is the digest of a stored configuration, or why there is none.
type ConfigSlot struct {
	Digest Digest
	Err    error
}

// Contents is everything that is read before the verdict.
type Contents struct {
	Slots   [2]Slot
	Configs [2]ConfigSlot
	Ring    Ring
}

// Ring holds the readable intents by number.
type Ring struct {
	Intents map[uint64]Intent
	Digests map[uint64]Digest
	// Damaged counts entries that hold something other than an intent in its place.
	Damaged int
}

// Factory reports whether no ledger was ever written.
func (c *Contents) Factory() bool {
	return errors.Is(c.Slots[0].Err, ErrEmpty) && errors.Is(c.Slots[1].Err, ErrEmpty)
}

// Load reads the partition. It fails when the medium fails or is no LEDGER at all (ErrCorrupt,
// ErrNewer, ErrEmpty); damage to a single record is reported in its place.
func (s *Store) Load() (*Contents, error) {
	if err := s.checkSuper(); err != nil {
		return nil, err
	}
	var c Contents
	for i := range c.Slots {
		b, err := s.readRecord(slotAt(i), kindLedger, slotSize-headerSize)
		if err == nil {
			c.Slots[i].Ledger, c.Slots[i].Digest, err = Decode(b)
		}
		if c.Slots[i].Err = err; unreadable(err) {
			return nil, err
		}
		yaml, err := s.ReadConfig(i)
		if c.Configs[i].Err = err; unreadable(err) {
			return nil, err
		}
		if err == nil {
			c.Configs[i].Digest = Sum(yaml)
		}
	}
	var err error
	c.Ring, err = s.readRing()
	return &c, err
}

// unreadable tells an error of the medium from one of its content.
func unreadable(err error) bool {
	return err != nil && !errors.Is(err, ErrEmpty) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer)
}

func (s *Store) checkSuper() error {
	var first error
	for _, at := range []int64{superOffset, superCopy} {
		b, err := s.readRecord(at, kindSuper, 8)
		if err == nil {
			_, err = decodeRecord(b, kindSuper, 8)
		}
		if err == nil {
			return nil
		}
		if first == nil {
			first = fmt.Errorf("superblock: %w", err)
		}
	}
	return first
}

// readRecord reads a header, and then no more than the header says.
func (s *Store) readRecord(at int64, k kind, limit int) ([]byte, error) {
	b := make([]byte, headerSize)
	if err := s.read(b, at); err != nil {
		return nil, err
	}
	n, err := payloadLength(b, k, limit)
	if err != nil {
		return nil, err
	}
	b = append(b, make([]byte, n)...)
	return b, s.read(b[headerSize:], at+headerSize)
}

func (s *Store) read(b []byte, at int64) error {
	if n, err := s.m.ReadAt(b, at); n < len(b) {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read LEDGER at %#x: %w", at, err)
	}
	return nil
}

func (s *Store) readRing() (Ring, error) {
	b := make([]byte, RingSize*entrySize)
	if err := s.read(b, ringOffset); err != nil {
		return Ring{}, err
	}
	r := Ring{Intents: map[uint64]Intent{}, Digests: map[uint64]Digest{}}
	for n := range RingSize {
		i, d, err := DecodeIntent(b[n*entrySize : (n+1)*entrySize])
		switch {
		case errors.Is(err, ErrEmpty):
		case err != nil || i.Number%RingSize != uint64(n):
			r.Damaged++
		default:
			r.Intents[i.Number], r.Digests[i.Number] = i, d
		}
	}
	return r, nil
}

// WriteLedger writes l into the slot of its sequence number and reads it back; the other slot is not
// touched. It returns the digest for E.
func (s *Store) WriteLedger(l *Ledger) (Digest, error) {
	b, d, err := l.Encode()
	if err != nil {
		return d, err
	}
	if len(b) > slotSize {
		return d, fmt.Errorf("ledger %d: %d bytes, at most %d", l.Sequence, len(b), slotSize)
	}
	return d, s.write(b, slotAt(int(l.Sequence%2)))
}

// WriteIntent puts i into the ring.
func (s *Store) WriteIntent(i Intent) (Digest, error) {
	b, d, err := i.Encode()
	if err != nil {
		return d, err
	}
	return d, s.write(b, ringOffset+int64(i.Number%RingSize)*entrySize)
}

// DropIntents clears the readable intents with higher numbers than after, in their order.
func (s *Store) DropIntents(after uint64) error {
	r, err := s.readRing()
	if err != nil {
		return err
	}
	for _, n := range slices.Sorted(maps.Keys(r.Intents)) {
		if n <= after {
			continue
		}
		if err := s.write(make([]byte, entrySize), ringOffset+int64(n%RingSize)*entrySize); err != nil {
			return err
		}
	}
	return nil
}

// ReadConfig reads a configuration. Errors: ErrEmpty, ErrCorrupt, ErrNewer, or the medium's.
func (s *Store) ReadConfig(slot int) ([]byte, error) {
	b, err := s.readRecord(configAt(slot), kindConfig, MaxConfig)
	if err != nil {
		return nil, err
	}
	r, err := decodeRecord(b, kindConfig, MaxConfig)
	return r.payload, err
}

// WriteConfig writes a configuration; number is that of the attempt, for people who look.
func (s *Store) WriteConfig(slot int, number uint64, yaml []byte) error {
	if len(yaml) > MaxConfig {
		return fmt.Errorf("configuration of %d bytes: at most %d fit into LEDGER", len(yaml), MaxConfig)
	}
	return s.write(record{kind: kindConfig, number: number, payload: yaml}.encode(), configAt(slot))
}

// write makes b durable at an offset and reads it back.
func (s *Store) write(b []byte, at int64) error {
	if _, err := s.m.WriteAt(b, at); err != nil {
		return fmt.Errorf("write LEDGER at %#x: %w", at, err)
	}
	if err := s.m.Sync(); err != nil {
		return fmt.Errorf("sync LEDGER: %w", err)
	}
	got := make([]byte, len(b))
	if err := s.read(got, at); err != nil {
		return err
	}
	if !bytes.Equal(got, b) {
		return fmt.Errorf("write LEDGER at %#x: the medium reads back other bytes; replace the boot disk", at)
	}
	return nil
}

func slotAt(i int) int64   { return slotOffset + int64(i)*slotSize }
func configAt(i int) int64 { return confOffset + int64(i)*confStride }
