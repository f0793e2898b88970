package slot

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
)

// Place is where a slot is, as a device path names it: UEFI 2.10, 10.3.5.1.
type Place struct {
	GUID        string // unique GUID of the partition, lower case
	Number      uint32 // its entry in the table, from 1
	Start, Size uint64 // in sectors
}

// Option is the part of an EFI_LOAD_OPTION that matters here.
type Option struct {
	Active      bool
	Description string
	Place       Place
	Path        string // with backslashes
}

const (
	optionActive   = 1
	maxOption      = 4096
	maxDescription = 128 // UTF-16 units

	nodeMedia  = 4
	nodeDisk   = 1 // HARDDRIVE_DEVICE_PATH
	nodeFile   = 4
	nodeEnd    = 0x7f
	diskLength = 42
)

// errNotOurs is of options that are right but are no file on a GPT partition.
var errNotOurs = errors.New("not a file on a GPT partition")

// ParseOption reads a load option of the form HD(GPT)/File. Any other is errNotOurs or damaged; both stay as they are.
func ParseOption(b []byte) (Option, error) {
	le := binary.LittleEndian
	if len(b) < 8 || len(b) > maxOption {
		return Option{}, fmt.Errorf("load option of %d bytes", len(b))
	}
	o := Option{Active: le.Uint32(b)&optionActive != 0}
	length := int(le.Uint16(b[4:]))
	name, rest, ok := text16(b[6:])
	if !ok || length > len(rest) {
		return Option{}, errors.New("load option is cut off")
	}
	o.Description = name
	path := rest[:length]

	kind, sub, data, path, err := node(path)
	if err != nil {
		return Option{}, err
	}
	if kind != nodeMedia || sub != nodeDisk || len(data) != diskLength-4 || data[36] != 2 || data[37] != 2 {
		return Option{}, errNotOurs
	}
	o.Place = Place{Number: le.Uint32(data), Start: le.Uint64(data[4:]), Size: le.Uint64(data[12:]), GUID: FormatGUID(data[20:36])}

	kind, sub, data, path, err = node(path)
	if err != nil {
		return Option{}, err
	}
	if kind != nodeMedia || sub != nodeFile {
		return Option{}, errNotOurs
	}
	file, _, ok := text16(data)
	if !ok {
		return Option{}, errors.New("file name of load option is cut off")
	}
	o.Path = file
	if kind, _, _, _, err = node(path); err != nil || kind != nodeEnd {
		return Option{}, errors.Join(errNotOurs, err)
	}
	return o, nil
}

// Encode makes the variable's value.
func (o Option) Encode() ([]byte, error) {
	id, err := parseGUID(o.Place.GUID)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	disk := make([]byte, diskLength)
	disk[0], disk[1] = nodeMedia, nodeDisk
	le.PutUint16(disk[2:], diskLength)
	le.PutUint32(disk[4:], o.Place.Number)
	le.PutUint64(disk[8:], o.Place.Start)
	le.PutUint64(disk[16:], o.Place.Size)
	copy(disk[24:], id)
	disk[40], disk[41] = 2, 2 // GPT, and its GUID is the signature

	name := utf16z(o.Path)
	file := binary.LittleEndian.AppendUint16([]byte{nodeMedia, nodeFile}, uint16(4+len(name)))
	path := append(append(disk, append(file, name...)...), nodeEnd, 0xff, 4, 0)

	var attributes uint32
	if o.Active {
		attributes = optionActive
	}
	b := le.AppendUint32(nil, attributes)
	b = le.AppendUint16(b, uint16(len(path)))
	b = append(append(b, utf16z(o.Description)...), path...)
	if len(b) > maxOption || len(utf16z(o.Description)) > 2*maxDescription {
		return nil, fmt.Errorf("load option of %d bytes", len(b))
	}
	return b, nil
}

// node takes the first node off a device path.
func node(b []byte) (kind, sub byte, data, rest []byte, err error) {
	if len(b) < 4 {
		return 0, 0, nil, nil, errors.New("device path is cut off")
	}
	n := int(binary.LittleEndian.Uint16(b[2:]))
	if n < 4 || n > len(b) {
		return 0, 0, nil, nil, fmt.Errorf("device path node of %d bytes", n)
	}
	return b[0] & 0x7f, b[1], b[4:n], b[n:], nil
}

// text16 reads UTF-16 up to its NUL; text that is not UTF-16 or too long for a description is no text.
func text16(b []byte) (s string, rest []byte, ok bool) {
	var u []uint16
	for len(b) >= 2 && len(u) < maxDescription {
		c := binary.LittleEndian.Uint16(b)
		b = b[2:]
		if c == 0 {
			s = string(utf16.Decode(u))
			return s, b, bytes.Equal(utf16z(s)[:2*len(u)], raw16(u))
		}
		u = append(u, c)
	}
	return "", nil, false
}

func utf16z(s string) []byte { return append(raw16(utf16.Encode([]rune(s))), 0, 0) }

func raw16(u []uint16) []byte {
	b := make([]byte, 0, 2*len(u)+2)
	for _, c := range u {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

// FormatGUID writes a GUID as people and the stub do: the first three fields are little endian.
func FormatGUID(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

func parseGUID(s string) ([]byte, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 || len(s) != 36 {
		return nil, fmt.Errorf("%q is no GUID", s)
	}
	b[0], b[1], b[2], b[3] = b[3], b[2], b[1], b[0]
	b[4], b[5] = b[5], b[4]
	b[6], b[7] = b[7], b[6]
	return b, nil
}
