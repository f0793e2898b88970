package election

import (
	"encoding/binary"
	"fmt"
)

// version of a beat's encoding.
const version = 1

// maxName bounds a balancer's name.
const maxName = 63

// Word is a beat with what else a balancer tells one peer each time.
type Word struct {
	Beat
	// Key is a fingerprint of the flow table's hash key: only tables with the same key can exchange entries.
	Key uint64
	// Stream is a number that changes when the peer must take all flows anew.
	Stream uint64
}

// Append writes the word behind b: version, flags (ready, active), priority, term, key, stream, name.
func (w Word) Append(b []byte) []byte {
	flags := byte(0)
	if w.Ready {
		flags |= 1
	}
	if w.Active {
		flags |= 2
	}
	b = append(b, version, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(w.Priority))
	b = binary.BigEndian.AppendUint64(b, w.Term)
	b = binary.BigEndian.AppendUint64(b, w.Key)
	b = binary.BigEndian.AppendUint64(b, w.Stream)
	return append(b, w.Name...)
}

// ParseWord reads a word.
func ParseWord(b []byte) (Word, error) {
	const header = 28
	if len(b) <= header || len(b) > header+maxName || b[0] != version || b[1] > 3 {
		return Word{}, fmt.Errorf("parse beat: %d bytes are not one of version %d", len(b), version)
	}
	return Word{
		Beat: Beat{
			Ready: b[1]&1 != 0, Active: b[1]&2 != 0, Priority: int(binary.BigEndian.Uint16(b[2:])),
			Term: binary.BigEndian.Uint64(b[4:]), Name: string(b[header:]),
		},
		Key: binary.BigEndian.Uint64(b[12:]), Stream: binary.BigEndian.Uint64(b[20:]),
	}, nil
}
