package memory

import (
	"encoding/binary"
	"fmt"
)

// Offsets in the first page of a swap area, union swap_header of the kernel: 1024 bytes for a boot loader come
// first, the magic comes last.
const (
	headerVersion  = 1024
	headerLastPage = 1028
	headerMagic    = "SWAPSPACE2"
)

// minPages is what the kernel accepts: the header and something to swap to.
const minPages = 2

// header is the first page of a swap area of so many bytes. It names no bad pages, no UUID and no label.
func header(size uint64, pageSize int) ([]byte, error) {
	pages := size / uint64(pageSize)
	if pages < minPages || pages > 1<<32 {
		return nil, fmt.Errorf("make swap header: %d pages of %d bytes, want %d to %d", pages, pageSize, minPages, uint64(1)<<32)
	}
	page := make([]byte, pageSize)
	// The kernel writes its own byte order; the appliance's is this one.
	binary.LittleEndian.PutUint32(page[headerVersion:], 1)
	binary.LittleEndian.PutUint32(page[headerLastPage:], uint32(pages-1))
	copy(page[pageSize-len(headerMagic):], headerMagic)
	return page, nil
}
