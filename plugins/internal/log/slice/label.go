package slice

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// Magic starts both labels; a prober takes it for a disk of ours.
const Magic = "RATCHDSK"

// unfinished starts a disk while Format is at work on it.
const unfinished = "RATCHNEW"

const (
	formatVersion = 1
	labelHeader   = 64
	entrySize     = 128
	maxName       = 64

	// MaxSlices is how many one label can name.
	MaxSlices = (log.BlockSize - labelHeader) / entrySize
	// Alignment is that of a slice's start and size, in bytes.
	Alignment = 1 << 20
	// MaxShare bounds a weight.
	MaxShare = 1 << 20
)

var (
	// ErrNotFormatted means that the disk has no label of ours.
	ErrNotFormatted = errors.New("disk has no label")
	// ErrForeign means that the disk holds a log that is not in a slice, as development versions
	// made them. It is left alone.
	ErrForeign = errors.New("disk holds a write log without a label, made by a development version: erase the disk if its data is not needed")
	// ErrTooNew means that a newer version has written the label.
	ErrTooNew = errors.New("disk label is newer than this software: boot the newer image")
	// ErrDamaged means that neither label can be read.
	ErrDamaged = errors.New("both labels of the disk are damaged")
	// ErrNoSlice means that no slice has that name.
	ErrNoSlice = errors.New("no such slice")
	// ErrExists means that a slice with that name is there.
	ErrExists = errors.New("slice exists")
	// ErrNoRoom means that the disk has no free run of that size.
	ErrNoRoom = errors.New("no room on the disk")

	errInvalid = errors.New("invalid")
)

// Info describes a slice.
type Info struct {
	Name      string
	ID        [16]byte // the caller's, to tell two slices of one name apart
	Off, Size int64    // in bytes
	Share     int64    // weight among the slices of the disk, at least 1
}

func (i Info) end() int64 { return i.Off + i.Size }

// label is the table of slices, in order of their place.
type label struct {
	generation uint64
	uuid       [16]byte
	slices     []Info
}

// 0 magic  8 version  12 sum  16 incompatible features  24 generation  32 UUID  48 slices
// 64 entries: ID 16, offset 8, size 8, share 8, length of name 1, name at 64
func (l *label) encode(p []byte) {
	clear(p[:log.BlockSize])
	le := binary.LittleEndian
	copy(p, Magic)
	le.PutUint32(p[8:], formatVersion)
	le.PutUint64(p[24:], l.generation)
	copy(p[32:], l.uuid[:])
	le.PutUint32(p[48:], uint32(len(l.slices)))
	for i, s := range l.slices {
		e := p[labelHeader+i*entrySize:]
		copy(e, s.ID[:])
		le.PutUint64(e[16:], uint64(s.Off))
		le.PutUint64(e[24:], uint64(s.Size))
		le.PutUint64(e[32:], uint64(s.Share))
		e[40] = byte(len(s.Name))
		copy(e[64:64+maxName], s.Name)
	}
	le.PutUint32(p[12:], log.Checksum(p[:log.BlockSize])) // the field itself is still zero here
}

// parseLabel accepts exactly what encode writes for a disk of size bytes.
func parseLabel(p []byte, size int64) (*label, error) {
	if len(p) < log.BlockSize || string(p[:8]) != Magic {
		return nil, ErrNotFormatted
	}
	p = append([]byte(nil), p[:log.BlockSize]...)
	le := binary.LittleEndian
	sum := le.Uint32(p[12:])
	le.PutUint32(p[12:], 0)
	if log.Checksum(p) != sum {
		return nil, fmt.Errorf("checksum: %w", errInvalid)
	}
	if v, f := le.Uint32(p[8:]), le.Uint64(p[16:]); v != formatVersion || f != 0 {
		return nil, fmt.Errorf("version %d, features %#x: %w", v, f, ErrTooNew)
	}
	l := &label{generation: le.Uint64(p[24:]), uuid: [16]byte(p[32:48])}
	n := le.Uint32(p[48:])
	if n > MaxSlices {
		return nil, fmt.Errorf("%d slices: %w", n, errInvalid)
	}
	for i := range int(n) {
		e := p[labelHeader+i*entrySize:]
		if int(e[40]) > maxName {
			return nil, fmt.Errorf("slice %d: name: %w", i, errInvalid)
		}
		l.slices = append(l.slices, Info{
			ID: [16]byte(e[:16]), Off: int64(le.Uint64(e[16:])), Size: int64(le.Uint64(e[24:])), Share: int64(le.Uint64(e[32:])),
			Name: string(e[64 : 64+int(e[40])]),
		})
	}
	if err := l.check(size); err != nil {
		return nil, err
	}
	return l, nil
}

// check holds the table to what a disk of size bytes can have.
func (l *label) check(size int64) error {
	end := int64(Alignment)
	names := map[string]bool{}
	for i, s := range l.slices {
		if s.Off < end || s.Off%Alignment != 0 || s.Size <= 0 || s.Size%Alignment != 0 || s.Size > size-s.Off ||
			s.Share < 1 || s.Share > MaxShare || s.Name == "" || len(s.Name) > maxName || names[s.Name] {
			return fmt.Errorf("slice %d, %q at %d+%d: %w", i, s.Name, s.Off, s.Size, errInvalid)
		}
		end, names[s.Name] = s.end(), true
	}
	return nil
}

// free is the largest run without a slice, before a disk's end at size.
func (l *label) free(size int64) (off, n int64) {
	end := int64(Alignment)
	for i := range len(l.slices) + 1 {
		next := size &^ (Alignment - 1)
		if i < len(l.slices) {
			next = l.slices[i].Off
		}
		if next-end > n {
			off, n = end, next-end
		}
		if i < len(l.slices) {
			end = l.slices[i].end()
		}
	}
	return off, n
}
