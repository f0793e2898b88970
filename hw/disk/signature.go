package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Signature says what content r starts or ends with: "GPT partition table", "ext4", … and ""
// when none is known. Magics are the beginnings of content that is the caller's own and counts
// as none, such as a log's superblock at offset 0.
//
// It reads a few hundred KiB at most, in whole aligned blocks, so that r may be opened with
// O_DIRECT. An error means that the disk could not be read, never that nothing was found.
func Signature(r io.ReaderAt, size int64, own ...[]byte) (kind string, err error) {
	p := probe{r: r, size: size}
	for _, magic := range own {
		if len(magic) > 0 && bytes.Equal(p.at(0, len(magic)), magic) {
			return "", p.err
		}
	}
	for _, f := range formats {
		found := f.check(&p)
		if p.err != nil {
			return "", fmt.Errorf("look for signatures: %w", p.err)
		}
		if found {
			return f.kind, nil
		}
	}
	return "", nil
}

// probe reads pieces of a disk; a piece outside of it reads as zeros, which match nothing.
type probe struct {
	r     io.ReaderAt
	size  int64
	err   error
	block int64 // offset of the bytes in buf
	buf   []byte
}

// window is the unit of reading: aligned, and large enough for the start of any format here.
const window = 64 << 10

// at returns n bytes at offset, valid until the next call. n is at most 4096.
func (p *probe) at(offset int64, n int) []byte {
	if p.err != nil || offset < 0 || offset+int64(n) > p.size {
		return make([]byte, n)
	}
	if p.buf == nil || offset < p.block || offset+int64(n) > p.block+int64(len(p.buf)) {
		p.fill(offset, n)
	}
	from := offset - p.block
	if p.err != nil || from+int64(n) > int64(len(p.buf)) {
		return make([]byte, n)
	}
	return p.buf[from : from+int64(n)]
}

func (p *probe) fill(offset int64, n int) {
	const align = 4096
	p.block = offset &^ (align - 1)
	want := min(max(window, (int64(n)+align)&^(align-1)), p.size-p.block)
	p.buf = Aligned(int(want))
	got, err := p.r.ReadAt(p.buf, p.block)
	if err != nil && !errors.Is(err, io.EOF) {
		p.err = err
	}
	p.buf = p.buf[:got]
}

func (p *probe) is(offset int64, magic string) bool {
	return string(p.at(offset, len(magic))) == magic
}

func (p *probe) le16(offset int64) uint16 { return binary.LittleEndian.Uint16(p.at(offset, 2)) }
func (p *probe) le32(offset int64) uint32 { return binary.LittleEndian.Uint32(p.at(offset, 4)) }

// format is one kind of content. Where one format contains the mark of another (FAT and NTFS
// end their first sector like an MBR), the more telling one stands first.
type format struct {
	kind  string
	check func(*probe) bool
}

var formats = []format{
	{"LUKS", isLUKS},
	{"LVM2 physical volume", isLVM},
	{"md RAID member", isMD},
	{"ZFS", isZFS},
	{"bcache", isBcache},
	{"XFS", func(p *probe) bool { return p.is(0, "XFSB") }},
	{"btrfs", func(p *probe) bool { return p.is(64<<10+64, "_BHRfS_M") }},
	{"ext2/3/4", isExt},
	{"swap", isSwap},
	{"NTFS", func(p *probe) bool { return p.is(3, "NTFS    ") }},
	{"exFAT", func(p *probe) bool { return p.is(3, "EXFAT   ") }},
	{"FAT", isFAT},
	{"ISO 9660", func(p *probe) bool { return p.is(32769, "CD001") }},
	{"GPT partition table", isGPT},
	{"MBR partition table", isMBR},
}

// isLUKS knows both versions, and the secondary header of LUKS2 whose primary was overwritten.
func isLUKS(p *probe) bool {
	if p.is(0, "LUKS\xba\xbe") {
		return true
	}
	for offset := int64(16 << 10); offset <= 4<<20; offset *= 2 { // every size the specification allows
		if p.is(offset, "SKUL\xba\xbe") {
			return true
		}
	}
	return false
}

// isLVM looks into the four sectors where a label may be.
func isLVM(p *probe) bool {
	for sector := range int64(4) {
		if p.is(sector*512, "LABELONE") && p.is(sector*512+24, "LVM2 001") {
			return true
		}
	}
	return false
}

// isMD knows superblocks 1.1 (start), 1.2 (4 KiB), 1.0 (8 KiB before the end, rounded down to
// 4 KiB) and 0.90 (64 KiB before the end, rounded down to 64 KiB, either byte order).
func isMD(p *probe) bool {
	const magic = 0xa92b4efc
	for _, offset := range mdOffsets(p.size) {
		if p.le32(offset) == magic || binary.BigEndian.Uint32(p.at(offset, 4)) == magic {
			return true
		}
	}
	return false
}

func mdOffsets(size int64) []int64 {
	return []int64{0, 4 << 10, (size - 8<<10) &^ (4<<10 - 1), size&^(64<<10-1) - 64<<10}
}

// isZFS looks for the first uberblocks of the four labels, two at either end of the disk.
func isZFS(p *probe) bool {
	for _, label := range zfsLabels(p.size) {
		for slot := range int64(128) { // uberblocks of 1 KiB; larger ones lie on a subset of these places
			if v := p.at(label+128<<10+slot<<10, 8); bytes.Equal(v, []byte{0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0}) ||
				bytes.Equal(v, []byte{0, 0, 0, 0, 0, 0xba, 0xb1, 0x0c}) {
				return true
			}
		}
	}
	return false
}

func zfsLabels(size int64) []int64 {
	const label = 256 << 10
	end := size &^ (label - 1)
	return []int64{0, label, end - 2*label, end - label}
}

func isBcache(p *probe) bool {
	return p.is(4096+24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81")
}

// isExt asks for a plausible superblock too: the magic is only two bytes.
func isExt(p *probe) bool {
	const super = 1024
	return p.le16(super+0x38) == 0xef53 && p.le32(super) != 0 && p.le32(super+0x18) <= 6
}

// isSwap knows the page sizes of all architectures: the mark ends the first page.
func isSwap(p *probe) bool {
	for page := int64(4 << 10); page <= 64<<10; page *= 2 {
		if p.is(page-10, "SWAPSPACE2") || p.is(page-10, "SWAP-SPACE") || p.is(page-10, "S1SUSPEND\x00") {
			return true
		}
	}
	return false
}

// isFAT needs the boot sector's end mark, a sane BIOS parameter block, and a type string.
func isFAT(p *probe) bool {
	if p.le16(510) != 0xaa55 {
		return false
	}
	sector := p.le16(11)
	return (p.is(54, "FAT") || p.is(82, "FAT32")) && sector >= 512 && sector <= 4096 && sector&(sector-1) == 0
}

// isGPT looks for the primary header in both sector sizes and for the backup at the end.
func isGPT(p *probe) bool {
	for _, sector := range []int64{512, 4096} {
		if p.is(sector, "EFI PART") || p.is(p.size-sector, "EFI PART") {
			return true
		}
	}
	return false
}

// isMBR wants at least one partition with a type, a length and a legal boot flag, as many
// boot sectors end with the same two bytes.
func isMBR(p *probe) bool {
	if p.le16(510) != 0xaa55 {
		return false
	}
	found := false
	for entry := int64(446); entry < 510; entry += 16 {
		e := p.at(entry, 16)
		if e[0] != 0 && e[0] != 0x80 {
			return false
		}
		found = found || e[4] != 0 && binary.LittleEndian.Uint32(e[12:]) != 0
	}
	return found
}
