package devmapper

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// message is what every ioctl of the device-mapper takes and gives: a struct dm_ioctl, and behind it for
// a table struct dm_target_spec with its parameters.
type message struct {
	name, uuid string
	flags      uint32
	target     *target
	text       string // for a target; not with a table
}

type target struct {
	sectors uint64 // of 512 bytes
	kind    string
	params  string
}

// Places in struct dm_ioctl.
const (
	atVersion = 0
	atSize    = 12
	atStart   = 16
	atTargets = 20
	atFlags   = 28
	atDevice  = 40
	atName    = 48
	atUUID    = 176

	maxName = unix.DM_NAME_LEN - 1
	maxUUID = unix.DM_UUID_LEN - 1

	targetParams = unix.SizeofDmTargetSpec // follow the spec
	targetAlign  = 8

	targetMessage = 8 // the sector before the text
)

func (m message) encode() ([]byte, error) {
	if m.name == "" || len(m.name) > maxName || strings.ContainsAny(m.name, "/\x00") || len(m.uuid) > maxUUID {
		return nil, fmt.Errorf("%q with UUID %q is no name of a mapping", m.name, m.uuid)
	}
	size := unix.SizeofDmIoctl
	if m.target != nil {
		size += (targetParams + len(m.target.params) + 1 + targetAlign - 1) / targetAlign * targetAlign
	}
	if m.text != "" {
		size += targetMessage + len(m.text) + 1
	}
	b := make([]byte, size)
	ne := binary.NativeEndian
	// The oldest interface that has all of this; the kernel refuses only another first number.
	for i, v := range []uint32{4, 27, 0} {
		ne.PutUint32(b[atVersion+4*i:], v)
	}
	ne.PutUint32(b[atSize:], uint32(size))
	ne.PutUint32(b[atStart:], unix.SizeofDmIoctl)
	ne.PutUint32(b[atFlags:], m.flags)
	copy(b[atName:], m.name)
	copy(b[atUUID:], m.uuid)
	if t := m.target; t != nil {
		ne.PutUint32(b[atTargets:], 1)
		spec := b[unix.SizeofDmIoctl:]
		ne.PutUint64(spec[8:], t.sectors)
		copy(spec[24:targetParams], t.kind)
		copy(spec[targetParams:], t.params)
	}
	if m.text != "" {
		// Sector zero: the mapping has one target.
		copy(b[unix.SizeofDmIoctl+targetMessage:], m.text)
	}
	return b, nil
}

// device takes the device number out of an answer, encoded as in huge_encode_dev.
func device(answer []byte) uint64 { return binary.NativeEndian.Uint64(answer[atDevice:]) }

// minor of such a number: its low byte, and the bits above the major's.
func minor(dev uint64) uint32 { return unix.Minor(dev) }

// Target is a table of one target over a whole mapping.
type Target struct {
	Kind   string // "linear", "log-writes", …
	Size   int64  // in bytes, a multiple of 512
	Params string // as the kernel's documentation of the target has them
}

// Crypt describes a mapping. All fields are needed.
type Crypt struct {
	Name string // /dev/mapper/NAME
	UUID string // of the volume
	// Backing is the node with the header; the data lie Size bytes from Offset in it.
	Backing      string
	Offset, Size int64
	Cipher       string
	Key          []byte
	SectorSize   int
}

// sector is the unit of every number in a table.
const sector = 512

// table writes the crypt target over a device "major:minor" with a key of the keyring.
func (c Crypt) table(backing, keyName string) (*target, error) {
	unit := int64(c.SectorSize)
	switch {
	case unit < sector || unit > 4096 || unit&(unit-1) != 0:
		return nil, fmt.Errorf("sectors of %d bytes", unit)
	case c.Size <= 0 || c.Size%unit != 0 || c.Offset < 0 || c.Offset%unit != 0:
		return nil, fmt.Errorf("%d bytes from %d are not whole sectors of %d", c.Size, c.Offset, unit)
	case strings.ContainsAny(c.Cipher, " \x00") || c.Cipher == "":
		return nil, fmt.Errorf("%q is no cipher", c.Cipher)
	}
	var p bytes.Buffer
	fmt.Fprintf(&p, "%s :%d:logon:%s 0 %s %d", c.Cipher, len(c.Key), keyName, backing, c.Offset/sector)
	if unit != sector {
		fmt.Fprintf(&p, " 1 sector_size:%d", unit)
	}
	return &target{sectors: uint64(c.Size / sector), kind: "crypt", params: p.String()}, nil
}
