package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"

	"github.com/ratchetos/ratchet/boot/slot"
)

// partition is an entry of a GUID partition table.
type partition struct {
	guid string // unique GUID, lower case, as the firmware's variables write it
	name string
	// number is its entry from 1; first and last are sectors, last included.
	number      uint32
	first, last uint64
}

var errNoGPT = errors.New("no GUID partition table")

// Limits of what is read before the verdict; UEFI 2.10, 5.3.3 asks for 16 KiB of entries.
const (
	maxEntries   = 128
	maxEntrySize = 512
)

// readGPT reads the primary table. The kernel has parsed it already to make the partitions' nodes,
// but in 6.1 it does not show their unique GUIDs.
func readGPT(r io.ReaderAt, sector int64) ([]partition, error) {
	if sector < 512 || sector > 1<<16 {
		return nil, fmt.Errorf("read GPT: sectors of %d bytes", sector)
	}
	h := make([]byte, 92)
	if _, err := r.ReadAt(h, sector); err != nil {
		return nil, fmt.Errorf("read GPT: %w", err)
	}
	le := binary.LittleEndian
	if string(h[:8]) != "EFI PART" || le.Uint32(h[12:]) != 92 {
		return nil, errNoGPT
	}
	sum := le.Uint32(h[16:])
	le.PutUint32(h[16:], 0)
	at, n, size := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	if crc32.ChecksumIEEE(h) != sum || n > maxEntries || size < 128 || size > maxEntrySize || at > 1<<40 {
		return nil, fmt.Errorf("read GPT: header is corrupt")
	}
	entries := make([]byte, n*size)
	if _, err := r.ReadAt(entries, int64(at)*sector); err != nil {
		return nil, fmt.Errorf("read GPT: %w", err)
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(h[88:]) {
		return nil, fmt.Errorf("read GPT: entries are corrupt")
	}
	var parts []partition
	for i := range n {
		e := entries[i*size : (i+1)*size]
		if le.Uint64(e) != 0 || le.Uint64(e[8:]) != 0 { // an unused entry has no type
			parts = append(parts, partition{
				guid: slot.FormatGUID(e[16:32]), name: utf16String(e[56:128]),
				number: i + 1, first: le.Uint64(e[32:]), last: le.Uint64(e[40:]),
			})
		}
	}
	return parts, nil
}

// utf16String decodes little-endian UTF-16 up to the first NUL.
func utf16String(b []byte) string {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		c := binary.LittleEndian.Uint16(b)
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u))
}

func sameGUID(a, b string) bool { return strings.EqualFold(a, b) }
