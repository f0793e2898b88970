package slice

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// depth is how many writes the disk is given at a time. With a second one each of two busy
// volumes would always have its write at the disk, and nothing would be left to decide. A log
// writes large pieces, so that one at a time keeps a disk busy.
const depth = 1

// Set is the slices of one disk.
type Set struct {
	disk   log.Disk
	cached log.CachedReader // nil if the disk has no such thing

	mu     sync.Mutex // the table, and changes to it
	label  *label
	opened map[string]*Disk
	nextID int

	turning sync.Mutex
	turns   *turns[chan struct{}]

	syncs syncs
}

// Format makes an empty table on a disk, which may hold none yet: see Open and Unfinished.
func Format(d log.Disk, uuid [16]byte) error {
	if _, err := Open(d); !errors.Is(err, ErrNotFormatted) {
		return fmt.Errorf("format disk: %w", cmpErr(err, errors.New("it has a label")))
	}
	// The mark says whose half a label is when the power goes in between.
	p := log.AlignedBuffer(log.BlockSize)
	copy(p, unfinished)
	if err := put(d, p, 0); err != nil {
		return fmt.Errorf("format disk: %w", err)
	}
	l := &label{uuid: uuid}
	for i := range 2 {
		l.generation = uint64(1 - i) // copy B, then A
		l.encode(p)
		if err := put(d, p, 1-i); err != nil {
			return fmt.Errorf("format disk: %w", err)
		}
	}
	return nil
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// put writes one of the two labels and makes it durable.
func put(d log.Disk, p []byte, i int) error {
	if _, err := d.WriteAt(p, int64(i)*log.BlockSize); err != nil {
		return fmt.Errorf("write label: %w", err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync label: %w", err)
	}
	return nil
}

// Unfinished reports whether a Format of d was cut short: the disk holds nothing yet and is ours
// to format again. Open says ErrNotFormatted of it.
func Unfinished(d log.Disk) (bool, error) {
	p := log.AlignedBuffer(log.BlockSize)
	if _, err := d.ReadAt(p, 0); err != nil {
		return false, fmt.Errorf("read label: %w", err)
	}
	_, err := Open(d)
	return string(p[:len(unfinished)]) == unfinished && errors.Is(err, ErrNotFormatted), nil
}

// Open reads the label. It writes nothing.
func Open(d log.Disk) (*Set, error) {
	l, err := readLabel(d)
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	s := &Set{disk: d, label: l, opened: make(map[string]*Disk), turns: newTurns[chan struct{}](depth)}
	s.cached, _ = d.(log.CachedReader)
	s.syncs.sync = d.Sync
	return s, nil
}

func readLabel(d log.Disk) (*label, error) {
	if d.Size() < 2*Alignment {
		return nil, ErrNotFormatted
	}
	p := log.AlignedBuffer(2 * log.BlockSize)
	if _, err := d.ReadAt(p, 0); err != nil {
		return nil, fmt.Errorf("read label: %w", err)
	}
	var best *label
	damaged := false
	for i := range 2 {
		b := p[i*log.BlockSize : (i+1)*log.BlockSize]
		l, err := parseLabel(b, d.Size())
		switch {
		case errors.Is(err, ErrTooNew):
			return nil, err // what the newer version wrote must not be undone
		case err == nil && (best == nil || l.generation > best.generation):
			best = l
		case err != nil && string(b[:8]) == log.Magic:
			return nil, ErrForeign
		case err != nil && !errors.Is(err, ErrNotFormatted):
			damaged = true
		}
	}
	switch {
	case best != nil:
		return best, nil
	case damaged && string(p[:len(unfinished)]) != unfinished:
		return nil, ErrDamaged
	}
	return nil, ErrNotFormatted
}

// Slices lists what is there, in order of place.
func (s *Set) Slices() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.label.slices)
}

// Free is the size of the largest slice that Create could make.
func (s *Set) Free() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.label.slices) == MaxSlices {
		return 0
	}
	_, n := s.label.free(s.disk.Size())
	return n
}

// Create makes a slice of i.Size bytes, rounded down to Alignment; 0 means all of the largest free
// run. It looks unformatted to a log. The place is the table's choice.
func (s *Set) Create(i Info) (Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.find(i.Name); err == nil {
		return Info{}, fmt.Errorf("create slice %s: %w", i.Name, ErrExists)
	}
	off, room := s.label.free(s.disk.Size())
	if i.Size &^= Alignment - 1; i.Size == 0 {
		i.Size = room
	}
	if i.Size > room || i.Size <= 0 || len(s.label.slices) == MaxSlices {
		return Info{}, fmt.Errorf("create slice %s of %d bytes, free are %d: %w", i.Name, i.Size, room, ErrNoRoom)
	}
	i.Off, i.Share = off, max(i.Share, 1)
	next := s.next()
	next.slices = append(next.slices, i)
	slices.SortFunc(next.slices, func(a, b Info) int { return int((a.Off - b.Off) / Alignment) })
	if err := next.check(s.disk.Size()); err != nil {
		return Info{}, fmt.Errorf("create slice %s: %w", i.Name, err)
	}
	// A log that was here before must not be found again.
	if _, err := s.disk.WriteAt(log.AlignedBuffer(2*log.BlockSize), off); err != nil {
		return Info{}, fmt.Errorf("create slice %s: wipe: %w", i.Name, err)
	}
	if err := s.syncs.do(); err != nil {
		return Info{}, fmt.Errorf("create slice %s: %w", i.Name, err)
	}
	return i, s.commit(next)
}

// Remove frees a slice. Nothing may use its Disk any more.
func (s *Set) Remove(name string) error {
	return s.change(name, "remove", func(l *label, i int) error {
		l.slices = slices.Delete(l.slices, i, i+1)
		return nil
	})
}

// Grow makes a slice larger, into free room behind it. A log keeps the size it was formatted with;
// an open Disk keeps its own.
func (s *Set) Grow(name string, size int64) error {
	return s.change(name, "grow", func(l *label, i int) error {
		size &^= Alignment - 1
		end := s.disk.Size() &^ (Alignment - 1)
		if i+1 < len(l.slices) {
			end = l.slices[i+1].Off
		}
		if size < l.slices[i].Size || size > end-l.slices[i].Off {
			return fmt.Errorf("from %d to %d bytes, at most %d: %w", l.slices[i].Size, size, end-l.slices[i].Off, ErrNoRoom)
		}
		l.slices[i].Size = size
		return nil
	})
}

// SetShare changes the weight of a slice.
func (s *Set) SetShare(name string, share int64) error {
	err := s.change(name, "share of", func(l *label, i int) error {
		if share < 1 || share > MaxShare {
			return fmt.Errorf("%d is not from 1 to %d", share, MaxShare)
		}
		l.slices[i].Share = share
		return nil
	})
	if d := s.disks(name); err == nil && d != nil {
		s.turning.Lock()
		s.turns.setWeight(d.flow, share)
		s.turning.Unlock()
	}
	return err
}

func (s *Set) disks(name string) *Disk {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened[name]
}

// change edits one entry of a copy of the table and commits it.
func (s *Set) change(name, verb string, edit func(*label, int) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(name)
	if err == nil {
		next := s.next()
		if err = edit(next, i); err == nil {
			err = s.commit(next)
		}
	}
	if err != nil {
		return fmt.Errorf("%s slice %s: %w", verb, name, err)
	}
	return nil
}

func (s *Set) find(name string) (int, error) {
	for i := range s.label.slices {
		if s.label.slices[i].Name == name {
			return i, nil
		}
	}
	return 0, ErrNoSlice
}

// next is a copy of the table to be edited.
func (s *Set) next() *label {
	return &label{generation: s.label.generation + 1, uuid: s.label.uuid, slices: slices.Clone(s.label.slices)}
}

// commit makes next durable in the copy that does not hold the present table.
func (s *Set) commit(next *label) error {
	p := log.AlignedBuffer(log.BlockSize)
	next.encode(p)
	if _, err := s.disk.WriteAt(p, int64(next.generation%2)*log.BlockSize); err != nil {
		return fmt.Errorf("write label: %w", err)
	}
	if err := s.syncs.do(); err != nil {
		return fmt.Errorf("sync label: %w", err)
	}
	s.label = next
	return nil
}
