package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

var (
	// ErrEmpty says that there are only zeros.
	ErrEmpty = errors.New("nothing was written here")
	// ErrCorrupt says that there is something, and it is not a whole record.
	ErrCorrupt = errors.New("record is corrupt")
	// ErrNewer says that the record is whole but of a version or with features that this code does not know.
	ErrNewer = errors.New("record was written by a newer version")
)

const (
	magic      = "RATCHET"
	headerSize = 40
	version    = 1
)

type kind byte

const (
	kindSuper   kind = 'S'
	kindLedger  kind = 'L'
	kindIntent  kind = 'I'
	kindConfig  kind = 'C'
	kindRequest kind = 'R'
	kindOutcome kind = 'O'
)

// record frames a payload. The zero features are all that version 1 knows.
type record struct {
	kind       kind
	compatible uint32
	number     uint64
	payload    []byte
}

func (r record) encode() []byte {
	b := make([]byte, headerSize, headerSize+len(r.payload))
	copy(b, magic)
	b[7] = byte(r.kind)
	le := binary.LittleEndian
	le.PutUint16(b[8:], version)
	le.PutUint32(b[12:], r.compatible)
	le.PutUint32(b[20:], uint32(len(r.payload)))
	le.PutUint64(b[24:], r.number)
	le.PutUint32(b[36:], checksum(b, r.payload))
	return append(b, r.payload...)
}

func checksum(header, payload []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(header[:36], table), table, payload)
}

// payloadLength checks a header as far as it can be without the payload.
func payloadLength(header []byte, k kind, limit int) (int, error) {
	if len(header) < headerSize {
		return 0, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(header))
	}
	if allZero(header[:headerSize]) {
		return 0, ErrEmpty
	}
	if string(header[:7]) != magic || header[7] != byte(k) {
		return 0, fmt.Errorf("%w: magic %q", ErrCorrupt, header[:8])
	}
	n := binary.LittleEndian.Uint32(header[20:])
	if uint64(n) > uint64(limit) {
		return 0, fmt.Errorf("%w: length %d", ErrCorrupt, n)
	}
	return int(n), nil
}

// decodeRecord reads the record at the start of b; what follows it is ignored.
func decodeRecord(b []byte, k kind, limit int) (record, error) {
	n, err := payloadLength(b, k, limit)
	if err != nil {
		return record{}, err
	}
	if len(b) < headerSize+n {
		return record{}, fmt.Errorf("%w: cut off", ErrCorrupt)
	}
	le := binary.LittleEndian
	payload := b[headerSize : headerSize+n]
	if le.Uint32(b[36:]) != checksum(b, payload) {
		return record{}, fmt.Errorf("%w: checksum differs", ErrCorrupt)
	}
	// Only after the checksum: a flipped bit must not look like a newer version.
	if v, f := le.Uint16(b[8:]), le.Uint32(b[16:]); v != version || f != 0 {
		return record{}, fmt.Errorf("%w: version %d, features %#x", ErrNewer, v, f)
	}
	if le.Uint16(b[10:]) != 0 || le.Uint32(b[32:]) != 0 {
		return record{}, fmt.Errorf("%w: reserved bytes are set", ErrCorrupt)
	}
	return record{kind: k, compatible: le.Uint32(b[12:]), number: le.Uint64(b[24:]), payload: payload}, nil
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
