package journal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// Version of the lines.
	Version = 1
	// Format is what the header calls them.
	Format = "ratchet-moves"
	// MaxLine bounds a record: a plan with its three shapes is a few KiB.
	MaxLine = 256 << 10

	crcDigits = 8
)

var (
	// ErrDamaged means that a record is missing or unreadable in the middle of the journal. Nothing is done about it
	// by itself: see docs/explanation/migration.md.
	ErrDamaged = errors.New("the journal of moves is damaged")
	// ErrNewer means that a newer version wrote the journal.
	ErrNewer = errors.New("the journal of moves was written by a newer version; start that one, or end its moves there first")
)

// Header is the first line.
type Header struct {
	Format   string `json:"format"`
	Version  int    `json:"version"`
	Features uint64 `json:"features"` // bits a reader must know; none exist
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode returns v as a line.
func encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	if len(text)+crcDigits+2 > MaxLine {
		return nil, fmt.Errorf("encode record: %d bytes, at most %d", len(text), MaxLine)
	}
	line := fmt.Appendf(make([]byte, 0, len(text)+crcDigits+2), "%08x ", crc32.Checksum(text, castagnoli))
	return append(append(line, text...), '\n'), nil
}

// decode reads a line without its newline.
func decode(line []byte, v any) bool {
	if len(line) < crcDigits+2 || line[crcDigits] != ' ' {
		return false
	}
	var sum [crcDigits / 2]byte
	if _, err := hex.Decode(sum[:], line[:crcDigits]); err != nil {
		return false
	}
	text := line[crcDigits+1:]
	want := uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
	return crc32.Checksum(text, castagnoli) == want && json.Unmarshal(text, v) == nil
}

// Parse reads a journal. whole is how many bytes of it hold: what is behind them is a line that a crash has torn. An empty
// journal, or one whose header was torn, is no error.
func Parse(data []byte) (records []Record, whole int, err error) {
	line, rest, found := bytes.Cut(data, []byte{'\n'})
	var h Header
	switch {
	case !found: // nothing, or a header that a crash has torn
		return nil, 0, nil
	case !decode(line, &h):
		return nil, 0, fmt.Errorf("%w: it has no header", ErrDamaged)
	case h.Format != Format:
		return nil, 0, fmt.Errorf("%w: it says to be %q", ErrDamaged, h.Format)
	case h.Version > Version || h.Features != 0:
		return nil, 0, fmt.Errorf("version %d, features %#x: %w", h.Version, h.Features, ErrNewer)
	}
	for whole = len(data) - len(rest); len(rest) > 0; whole = len(data) - len(rest) {
		line, behind, found := bytes.Cut(rest, []byte{'\n'})
		var r Record
		switch {
		case !found:
			return records, whole, nil
		case !decode(line, &r):
			return nil, 0, fmt.Errorf("%w: the line at byte %d", ErrDamaged, whole)
		}
		// The numbers tell of lines that are missing as a whole.
		if n := len(records); n > 0 && r.Seq != records[n-1].Seq+1 {
			return nil, 0, fmt.Errorf("%w: record %d follows %d", ErrDamaged, r.Seq, records[n-1].Seq)
		}
		records, rest = append(records, r), behind
	}
	return records, whole, nil
}
