package volume

import (
	"encoding/binary"
	"sync"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// mark is what every group of the log carries for the volume: the newest durable one counts.
//
//	0 version  2 epoch (6 bytes)  8 confirmed: position, 16 sequence, 24 previous sum
//	28 sequence of the head  36 writer epoch  44 writer id
type mark struct {
	epoch       uint64     // of the last takeover in the store
	confirmed   log.Cursor // the first group that no confirmed head covers; zero: the log's start
	headSeq     uint64     // sequence number of the confirmed head
	writerEpoch uint64     // of the client that may write (S15)
	writerID    [16]byte
}

const markVersion = 1

func (m mark) encode() (p log.Mark) {
	le := binary.LittleEndian
	le.PutUint64(p[0:], m.epoch<<16|markVersion)
	le.PutUint64(p[8:], uint64(m.confirmed.Pos))
	le.PutUint64(p[16:], m.confirmed.Seq)
	le.PutUint32(p[24:], m.confirmed.Prev)
	le.PutUint64(p[28:], m.headSeq)
	le.PutUint64(p[36:], m.writerEpoch)
	copy(p[44:], m.writerID[:])
	return p
}

func decodeMark(p log.Mark) (mark, error) {
	le := binary.LittleEndian
	if v := le.Uint16(p[0:]); v != markVersion {
		return mark{}, log.ErrTooNew
	}
	m := mark{
		epoch:     le.Uint64(p[0:]) >> 16,
		confirmed: log.Cursor{Pos: int64(le.Uint64(p[8:])), Seq: le.Uint64(p[16:]), Prev: le.Uint32(p[24:])},
		headSeq:   le.Uint64(p[28:]), writerEpoch: le.Uint64(p[36:]),
	}
	copy(m.writerID[:], p[44:])
	return m, nil
}

// marks hands changes of the mark and of the tail to the log one after the other.
type marks struct {
	mu sync.Mutex
	m  mark
}

// setMark changes the mark; it is durable after the log's next flush. A nil tail leaves the tail.
func (v *Volume) setMark(tail *log.Cursor, change func(*mark)) error {
	v.marks.mu.Lock()
	defer v.marks.mu.Unlock()
	m := v.marks.m
	if change != nil {
		change(&m)
	}
	t := v.log.Tail()
	if tail != nil {
		t = *tail
	}
	if err := v.log.SetMark(t, m.encode()); err != nil {
		return err
	}
	v.marks.m = m
	return nil
}

func (v *Volume) mark() mark {
	v.marks.mu.Lock()
	defer v.marks.mu.Unlock()
	return v.marks.m
}
