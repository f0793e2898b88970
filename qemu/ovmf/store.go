package ovmf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf16"
)

// Variable is one UEFI variable.
type Variable struct {
	Name       string
	Vendor     GUID
	Attributes Attributes
	// Timestamp orders authenticated updates; zero for variables without TimeBasedAuth.
	Timestamp time.Time
	Data      []byte
}

// Attributes of a variable (UEFI 2.10, section 8.2).
type Attributes uint32

// The attributes Secure Boot's variables carry.
const (
	NonVolatile       Attributes = 0x01
	BootServiceAccess Attributes = 0x02
	RuntimeAccess     Attributes = 0x04
	TimeBasedAuth     Attributes = 0x20
)

var (
	// ErrFormat means that the image is not an authenticated variable store.
	ErrFormat = errors.New("not an OVMF variable store")
	// ErrFull means that the store has no room left. The firmware would reclaim deleted variables; we start from
	// an almost empty template and do not.
	ErrFull = errors.New("variable store is full")
)

// Layout of the image. Offsets within the firmware volume header, then of the store header behind it.
const (
	volumeLength    = 32 // uint64
	volumeSignature = 40 // "_FVH"
	volumeHeaderLen = 48 // uint16
	volumeHeaderMin = 72 // fixed part and one block map entry with its terminator

	storeHeaderLen = 28
	storeFormatted = 0x5A
	storeHealthy   = 0xFE

	variableStart     = 0x55AA
	variableHeaderLen = 60
	// A variable's state byte starts as 0xFF; flash can only clear bits, so each step clears one more.
	stateAdded     = 0x3F
	stateInDeleted = 0xFE // mask: a newer copy is being written
	stateDeleted   = 0xFD // mask: gone
)

var storeGUID = MustGUID("aaf32c78-947b-439a-a180-2e144ec37792")

var le = binary.LittleEndian

// Store is a parsed image. It owns a copy of the bytes.
type Store struct {
	image []byte
	vars  []entry
	free  int // offset of the first unused byte
	end   int // offset behind the last usable one
}

type entry struct {
	Variable
	offset int
}

// Parse reads the variable store in a flash image. Errors wrap ErrFormat.
func Parse(image []byte) (*Store, error) {
	start, end, err := bounds(image)
	if err != nil {
		return nil, fmt.Errorf("parse variable store: %w: %w", ErrFormat, err)
	}
	s := &Store{image: bytes.Clone(image), free: start, end: end}
	for s.free+variableHeaderLen <= s.end && le.Uint16(s.image[s.free:]) == variableStart {
		if err := s.scan(); err != nil {
			return nil, fmt.Errorf("parse variable at %#x: %w: %w", s.free, ErrFormat, err)
		}
	}
	// Flash can only be written where it is erased; anything else here means we misread the variables before it.
	if rest := bytes.Trim(s.image[s.free:s.end], "\xFF"); len(rest) > 0 {
		return nil, fmt.Errorf("parse variable store: %w: %d bytes behind the last variable are not erased", ErrFormat, len(rest))
	}
	return s, nil
}

// bounds checks both headers and returns where variables start and must end.
func bounds(image []byte) (start, end int, err error) {
	if len(image) < volumeHeaderMin {
		return 0, 0, fmt.Errorf("%d bytes are too few", len(image))
	}
	if string(image[volumeSignature:volumeSignature+4]) != "_FVH" {
		return 0, 0, errors.New("no firmware volume signature")
	}
	if n := le.Uint64(image[volumeLength:]); n > uint64(len(image)) {
		return 0, 0, fmt.Errorf("firmware volume of %d bytes in a file of %d", n, len(image))
	}
	header := int(le.Uint16(image[volumeHeaderLen:]))
	if header < volumeHeaderMin || header%2 != 0 || header+storeHeaderLen > len(image) {
		return 0, 0, fmt.Errorf("firmware volume header of %d bytes", header)
	}
	var sum uint16
	for i := 0; i < header; i += 2 {
		sum += le.Uint16(image[i:])
	}
	if sum != 0 {
		return 0, 0, errors.New("wrong checksum of the firmware volume header")
	}
	store := image[header:]
	if !bytes.Equal(store[:16], storeGUID[:]) {
		return 0, 0, errors.New("no authenticated variable store behind the volume header")
	}
	if store[20] != storeFormatted || store[21] != storeHealthy {
		return 0, 0, fmt.Errorf("store is not formatted and healthy (%#x, %#x)", store[20], store[21])
	}
	size := le.Uint32(store[16:])
	if size < storeHeaderLen || uint64(size) > uint64(len(store)) {
		return 0, 0, fmt.Errorf("store of %d bytes in %d", size, len(store))
	}
	return header + storeHeaderLen, header + int(size), nil
}

// scan reads the variable at s.free and moves s.free behind it.
func (s *Store) scan() error {
	h := s.image[s.free:s.end]
	nameLen, dataLen := uint64(le.Uint32(h[36:])), uint64(le.Uint32(h[40:]))
	total := variableHeaderLen + nameLen + dataLen
	if total > uint64(len(h)) {
		return fmt.Errorf("%d bytes, %d left in the store", total, len(h))
	}
	if state := h[2]; state == stateAdded || state == stateAdded&stateInDeleted {
		name, err := decodeName(h[variableHeaderLen : variableHeaderLen+nameLen])
		if err != nil {
			return err
		}
		s.vars = append(s.vars, entry{
			Variable: Variable{
				Name:       name,
				Vendor:     GUID(h[44:60]),
				Attributes: Attributes(le.Uint32(h[4:])),
				Timestamp:  decodeTime(h[16:32]),
				Data:       bytes.Clone(h[variableHeaderLen+nameLen : total]),
			},
			offset: s.free,
		})
	}
	s.free = min(align(s.free+int(total)), s.end)
	return nil
}

// Variables lists the live variables in the order they were written.
func (s *Store) Variables() []Variable {
	vars := make([]Variable, len(s.vars))
	for i, e := range s.vars {
		vars[i] = e.Variable
	}
	return vars
}

// Get returns the live variable of that name and vendor.
func (s *Store) Get(name string, vendor GUID) (Variable, bool) {
	for _, e := range s.vars {
		if e.Name == name && e.Vendor == vendor {
			return e.Variable, true
		}
	}
	return Variable{}, false
}

// Set appends v and marks an older copy deleted. It returns ErrFull, and changes nothing, when there is no room.
func (s *Store) Set(v Variable) error {
	b := encode(v)
	if len(b) > s.end-s.free {
		return fmt.Errorf("set %s: %w", v.Name, ErrFull)
	}
	s.Delete(v.Name, v.Vendor)
	copy(s.image[s.free:], b)
	v.Data = bytes.Clone(v.Data)
	s.vars = append(s.vars, entry{v, s.free})
	s.free = min(align(s.free+len(b)), s.end)
	return nil
}

// Delete marks every live copy of a variable deleted and tells whether there was one.
func (s *Store) Delete(name string, vendor GUID) bool {
	kept := s.vars[:0]
	for _, e := range s.vars {
		if e.Name == name && e.Vendor == vendor {
			s.image[e.offset+2] &= stateDeleted
			continue
		}
		kept = append(kept, e)
	}
	found := len(kept) < len(s.vars)
	s.vars = kept
	return found
}

// Bytes returns a copy of the flash image as it stands.
func (s *Store) Bytes() []byte { return bytes.Clone(s.image) }

func encode(v Variable) []byte {
	name := encodeName(v.Name)
	b := make([]byte, variableHeaderLen, variableHeaderLen+len(name)+len(v.Data))
	le.PutUint16(b, variableStart)
	b[2] = stateAdded
	le.PutUint32(b[4:], uint32(v.Attributes))
	encodeTime(b[16:32], v.Timestamp)
	le.PutUint32(b[36:], uint32(len(name)))
	le.PutUint32(b[40:], uint32(len(v.Data)))
	copy(b[44:], v.Vendor[:])
	return append(append(b, name...), v.Data...)
}

// align rounds up to the four bytes on which variable headers start.
func align(n int) int { return (n + 3) &^ 3 }

// encodeName gives UCS-2 with its terminating zero, as the firmware stores names.
func encodeName(s string) []byte {
	var b []byte
	for _, c := range append(utf16.Encode([]rune(s)), 0) {
		b = le.AppendUint16(b, c)
	}
	return b
}

func decodeName(b []byte) (string, error) {
	if len(b) < 2 || len(b)%2 != 0 || le.Uint16(b[len(b)-2:]) != 0 {
		return "", fmt.Errorf("name of %d bytes has no terminator", len(b))
	}
	units := make([]uint16, len(b)/2-1)
	for i := range units {
		units[i] = le.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units)), nil
}

// encodeTime writes an EFI_TIME with whole seconds in UTC; the zero time is sixteen zero bytes.
func encodeTime(b []byte, t time.Time) {
	if t.IsZero() {
		return
	}
	t = t.UTC()
	le.PutUint16(b, uint16(t.Year()))
	b[2], b[3], b[4], b[5], b[6] = byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second())
}

func decodeTime(b []byte) time.Time {
	year := int(le.Uint16(b))
	if year == 0 {
		return time.Time{}
	}
	return time.Date(year, time.Month(b[2]), int(b[3]), int(b[4]), int(b[5]), int(b[6]), 0, time.UTC)
}
