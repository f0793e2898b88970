package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Layout of the binary part, 4 KiB at the start of each copy (specification 2.1). Numbers are big endian.
const (
	binarySize = 4096

	atVersion   = 6
	atSize      = 8
	atSequence  = 16
	atLabel     = 24 // 48
	atAlgorithm = 72 // 32
	atSalt      = 104
	atUUID      = 168 // 40
	atSubsystem = 208 // 48
	atOffset    = 256
	atChecksum  = 448 // 64, zero while it is computed

	magicFirst  = "LUKS\xba\xbe"
	magicSecond = "SKUL\xba\xbe"
	maxCopy     = 4 << 20
)

// ErrNoHeader is wrapped when neither copy is a whole LUKS2 header.
var ErrNoHeader = errors.New("no LUKS2 header")

// block is one copy of the header as it lies on the disk.
type block struct {
	size, sequence         uint64
	label, uuid, subsystem string
	json                   []byte
}

// encode writes the copy that lies at offset. The salt makes two copies of equal content differ.
func (b block) encode(offset uint64, salt []byte) []byte {
	out := make([]byte, b.size)
	magic := magicFirst
	if offset > 0 {
		magic = magicSecond
	}
	copy(out, magic)
	be := binary.BigEndian
	be.PutUint16(out[atVersion:], 2)
	be.PutUint64(out[atSize:], b.size)
	be.PutUint64(out[atSequence:], b.sequence)
	copy(out[atLabel:atLabel+47], b.label)
	copy(out[atAlgorithm:], "sha256")
	copy(out[atSalt:atUUID], salt)
	copy(out[atUUID:atUUID+39], b.uuid)
	copy(out[atSubsystem:atSubsystem+47], b.subsystem)
	be.PutUint64(out[atOffset:], offset)
	copy(out[binarySize:], b.json)
	sum := sha256.Sum256(out)
	copy(out[atChecksum:], sum[:])
	return out
}

// readBlock reads the copy at offset and checks everything that does not need the JSON.
func readBlock(r io.ReaderAt, offset uint64) (block, error) {
	head := make([]byte, binarySize)
	if _, err := r.ReadAt(head, int64(offset)); errors.Is(err, io.EOF) {
		return block{}, fmt.Errorf("%w at %d: the device ends before", ErrNoHeader, offset)
	} else if err != nil {
		return block{}, fmt.Errorf("read LUKS2 header at %d: %w", offset, err)
	}
	magic := magicFirst
	if offset > 0 {
		magic = magicSecond
	}
	be := binary.BigEndian
	size := be.Uint64(head[atSize:])
	switch {
	case string(head[:6]) != magic:
		return block{}, fmt.Errorf("%w at %d", ErrNoHeader, offset)
	case be.Uint16(head[atVersion:]) != 2:
		return block{}, fmt.Errorf("%w at %d: version %d", ErrNoHeader, offset, be.Uint16(head[atVersion:]))
	case !validSize(size) || be.Uint64(head[atOffset:]) != offset || offset > 0 && offset != size:
		return block{}, fmt.Errorf("%w at %d: it gives another place or size", ErrNoHeader, offset)
	case text(head[atAlgorithm:atSalt]) != "sha256":
		return block{}, fmt.Errorf("read LUKS2 header at %d: checksum %q, only sha256 is supported", offset, text(head[atAlgorithm:atSalt]))
	}
	whole := make([]byte, size)
	if _, err := r.ReadAt(whole, int64(offset)); err != nil {
		return block{}, fmt.Errorf("read LUKS2 header at %d: %w", offset, err)
	}
	copy(whole, head) // what was checked is what is summed
	var stored [sha256.Size]byte
	copy(stored[:], whole[atChecksum:])
	clear(whole[atChecksum : atChecksum+64])
	if sha256.Sum256(whole) != stored {
		return block{}, fmt.Errorf("%w at %d: wrong checksum", ErrNoHeader, offset)
	}
	return block{
		size: size, sequence: be.Uint64(head[atSequence:]),
		label: text(head[atLabel:atAlgorithm]), uuid: text(head[atUUID:atSubsystem]), subsystem: text(head[atSubsystem:atOffset]),
		json: whole[binarySize:],
	}, nil
}

// validSize knows the sizes that a copy may have (specification 2.2): powers of two from 16 KiB to 4 MiB.
func validSize(n uint64) bool { return n >= 16<<10 && n <= maxCopy && n&(n-1) == 0 }

// text is a C string in a field.
func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return strings.ToValidUTF8(string(s), "?")
}
