package recorded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// What the kernel writes: a super block, then entries of one sector each followed by their data.
const (
	magic        = 0x6a736677736872
	version      = 1
	kernelSector = 512
	entryHeader  = 32
	maxEntry     = 64 << 20
)

// Flags of an entry.
const (
	flagFlush   = 1 << 0
	flagFUA     = 1 << 1
	flagDiscard = 1 << 2
	flagMark    = 1 << 3
)

// ErrFormat means that a disk holds no recording, or a damaged one.
var ErrFormat = errors.New("no recording of log-writes")

// Entry is one recorded request.
type Entry struct {
	Offset, Len int64 // in bytes
	Data        []byte
	Flush       bool   // everything before the entry was durable when it was sent
	FUA         bool   // and its data when it was answered
	Discard     bool   // Len bytes were given up; there is no Data
	Mark        string // not "" for a mark, which is no request
}

// Read hands the entries of a recording to fn, in order. Data is valid only inside.
func Read(r io.ReaderAt, fn func(i int, e Entry) error) error {
	super := make([]byte, kernelSector)
	if _, err := r.ReadAt(super, 0); err != nil {
		return fmt.Errorf("read super block: %w", err)
	}
	le := binary.LittleEndian
	n, sector := le.Uint64(super[16:]), int64(le.Uint32(super[24:]))
	if le.Uint64(super) != magic || le.Uint64(super[8:]) != version || sector < kernelSector || sector > 1<<16 || sector&(sector-1) != 0 {
		return fmt.Errorf("magic %#x, version %d, sectors of %d: %w", le.Uint64(super), le.Uint64(super[8:]), sector, ErrFormat)
	}
	head := make([]byte, sector)
	at := sector
	for i := range n {
		if _, err := r.ReadAt(head, at); err != nil {
			return fmt.Errorf("read entry %d: %w", i, err)
		}
		at += sector
		e, size, err := parse(head, sector)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if size > 0 {
			e.Data = make([]byte, size)
			if _, err := r.ReadAt(e.Data, at); err != nil {
				return fmt.Errorf("read data of entry %d: %w", i, err)
			}
			at += (size + sector - 1) / sector * sector
		}
		if err := fn(int(i), e); err != nil {
			return err
		}
	}
	return nil
}

// parse reads the sector of an entry; size is how much data follows.
func parse(p []byte, sector int64) (e Entry, size int64, err error) {
	le := binary.LittleEndian
	start, count := le.Uint64(p), le.Uint64(p[8:])
	flags, marked := le.Uint64(p[16:]), le.Uint64(p[24:])
	if count > maxEntry/uint64(sector) && flags&flagDiscard == 0 || start > 1<<40 || marked > uint64(len(p)-entryHeader) {
		return Entry{}, 0, fmt.Errorf("sectors %d+%d, mark of %d bytes: %w", start, count, marked, ErrFormat)
	}
	e = Entry{
		Offset: int64(start) * sector, Len: int64(count) * sector,
		Flush: flags&flagFlush != 0, FUA: flags&flagFUA != 0, Discard: flags&flagDiscard != 0,
	}
	if flags&flagMark != 0 {
		e.Mark = strings.TrimRight(string(p[entryHeader:entryHeader+marked]), "\x00")
		return e, 0, nil
	}
	if e.Discard {
		return e, 0, nil
	}
	return e, e.Len, nil
}
