package esp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// BootPath is where firmware looks for a program on a partition it has no boot entry for.
const BootPath = "EFI/BOOT/BOOTX64.EFI"

const (
	sector    = 512
	reserved  = 32    // sectors before the first FAT
	infoAt    = 1     // sector of FSInfo
	backupAt  = 6     // sector of the backup boot sector; FSInfo's follows it
	minimum   = 65525 // clusters; with fewer it is a FAT16 to every reader
	first     = 2     // the first cluster's number
	maxVolume = 1 << 40

	// The folders and the file, in clusters.
	rootCluster = first
	efiCluster  = 3
	bootCluster = 4
	fileCluster = 5

	attrVolume  = 0x08
	attrFolder  = 0x10
	attrArchive = 0x20
	// epoch is 1 January 1980, the first day FAT can store.
	epoch = 0x0021
	// chainEnd also marks a clean shutdown in entry 1.
	chainEnd = 0x0fffffff

	labelLength = 11
)

// ErrTooLarge says that a file does not fit its slot.
var ErrTooLarge = errors.New("image does not fit its slot")

// Volume is what a slot's layout depends on beside the file.
type Volume struct {
	// Size of the partition in bytes.
	Size int64
	// Hidden is the number of sectors before the partition on its disk; only a BIOS would use it.
	Hidden uint32
	// Label of at most 11 capital letters, digits and dashes: the partition's name.
	Label string
}

// Capacity is the length of the largest file that fits, 0 for a partition that cannot be a slot.
func (v Volume) Capacity() int64 {
	g, err := v.geometry()
	if err != nil {
		return 0
	}
	return min(int64(g.clusters-(fileCluster-first))*g.clusterSize(), math.MaxUint32)
}

// geometry is in sectors but for the number of clusters.
type geometry struct {
	sectors, perCluster, perFAT, clusters uint32
}

// geometry picks the largest clusters that still make it a FAT32: fewer and longer runs for a firmware that reads
// cluster by cluster.
func (v Volume) geometry() (geometry, error) {
	if v.Size <= reserved*sector || v.Size > maxVolume {
		return geometry{}, fmt.Errorf("lay out FAT32: partition of %d bytes", v.Size)
	}
	g := geometry{sectors: uint32(v.Size / sector)}
	for g.perCluster = 64; g.perCluster > 0; g.perCluster /= 2 {
		// A cluster costs its sectors and four bytes in each of two FATs.
		space := int64(g.sectors) - reserved
		n := space * sector / (int64(g.perCluster)*sector + 8)
		g.perFAT = uint32(((n+first)*4 + sector - 1) / sector)
		g.clusters = uint32(space-2*int64(g.perFAT)) / g.perCluster
		if g.clusters >= minimum {
			return g, nil
		}
	}
	return g, fmt.Errorf("lay out FAT32: %d bytes are too few", v.Size)
}

func (g geometry) clusterSize() int64 { return int64(g.perCluster) * sector }

// cluster is the byte offset of a cluster in the volume.
func (g geometry) cluster(n uint32) int64 {
	return (reserved+2*int64(g.perFAT))*sector + int64(n-first)*g.clusterSize()
}

// extent is a run of bytes in the volume.
type extent struct {
	at   int64
	data []byte
}

// plan is the layout of one file in one volume.
type plan struct {
	geometry
	boot []byte // sector 0 and its backup: without it nothing finds the rest
	// rest is every other byte of the layout, in order of offset.
	rest []extent
	n    int64 // length of the file
}

// fileAt is where the file starts.
func (p *plan) fileAt() int64 { return p.cluster(fileCluster) }

// lay makes the layout for a file of n bytes.
func (v Volume) lay(n int64) (*plan, error) {
	g, err := v.geometry()
	if err != nil {
		return nil, err
	}
	if !plainLabel(v.Label) {
		return nil, fmt.Errorf("lay out FAT32: label %q", v.Label)
	}
	if n <= 0 || n > v.Capacity() {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, n, v.Capacity())
	}
	used := uint32((n + g.clusterSize() - 1) / g.clusterSize())
	p := &plan{geometry: g, n: n, boot: g.bootSector(v)}

	head := make([]byte, reserved*sector)
	info := g.infoSector(fileCluster + used)
	copy(head[infoAt*sector:], info)
	copy(head[backupAt*sector:], p.boot)
	copy(head[(backupAt+infoAt)*sector:], info)

	fat := g.fat(used)
	folders := make([]byte, (fileCluster-first)*g.clusterSize())
	for i, entries := range [][]byte{
		append(entry(fmt.Sprintf("%-11.11s", v.Label), attrVolume, 0, 0), entry("EFI        ", attrFolder, efiCluster, 0)...),
		// The parent of a first-level folder is 0 by definition, not the root's cluster.
		append(dots(efiCluster, 0), entry("BOOT       ", attrFolder, bootCluster, 0)...),
		append(dots(bootCluster, efiCluster), entry("BOOTX64 EFI", attrArchive, fileCluster, uint32(n))...),
	} {
		copy(folders[int64(i)*g.clusterSize():], entries)
	}
	fatSize := int64(g.perFAT) * sector
	p.rest = []extent{
		{sector, head[sector:]},
		{reserved * sector, fat},
		{reserved*sector + fatSize, fat},
		{g.cluster(rootCluster), folders},
	}
	return p, nil
}

// fat is one whole FAT: three folders of one cluster, then the file's chain, then free clusters.
func (g geometry) fat(used uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, int64(g.perFAT)*sector)
	le.PutUint32(b, 0x0ffffff8) // media byte
	for n := uint32(1); n < fileCluster; n++ {
		le.PutUint32(b[4*n:], chainEnd)
	}
	for n := uint32(fileCluster); n < fileCluster+used-1; n++ {
		le.PutUint32(b[4*n:], n+1)
	}
	le.PutUint32(b[4*(fileCluster+used-1):], chainEnd)
	return b
}

func (g geometry) bootSector(v Volume) []byte {
	le := binary.LittleEndian
	b := make([]byte, sector)
	copy(b, "\xeb\x58\x90RATCHET ")
	le.PutUint16(b[11:], sector)
	b[13] = byte(g.perCluster)
	le.PutUint16(b[14:], reserved)
	b[16] = 2    // FATs
	b[21] = 0xf8 // fixed disk
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[28:], v.Hidden)
	le.PutUint32(b[32:], g.sectors)
	le.PutUint32(b[36:], g.perFAT)
	le.PutUint32(b[44:], rootCluster)
	le.PutUint16(b[48:], infoAt)
	le.PutUint16(b[50:], backupAt)
	b[64], b[66] = 0x80, 0x29
	serial := sha256.Sum256([]byte("ratchet fat " + v.Label)) // fixed: two builds give the same bytes
	copy(b[67:71], serial[:])
	copy(b[71:], fmt.Sprintf("%-11.11sFAT32   ", v.Label))
	b[510], b[511] = 0x55, 0xaa
	return b
}

// infoSector says how many clusters are free and which is the first of them.
func (g geometry) infoSector(next uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, sector)
	copy(b, "RRaA")
	copy(b[484:], "rrAa")
	le.PutUint32(b[488:], g.clusters+first-next)
	le.PutUint32(b[492:], next)
	le.PutUint32(b[508:], 0xaa550000)
	return b
}

func entry(name string, attr byte, cluster, size uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, 32)
	copy(b[:labelLength], name)
	b[11] = attr
	for _, at := range []int{16, 18, 24} { // created, accessed, written
		le.PutUint16(b[at:], epoch)
	}
	le.PutUint16(b[20:], uint16(cluster>>16))
	le.PutUint16(b[26:], uint16(cluster))
	le.PutUint32(b[28:], size)
	return b
}

func dots(self, parent uint32) []byte {
	return append(entry(".          ", attrFolder, self, 0), entry("..         ", attrFolder, parent, 0)...)
}

// plainLabel keeps a label to what every FAT driver prints as it is.
func plainLabel(s string) bool {
	return len(s) > 0 && len(s) <= labelLength && len(bytes.Trim([]byte(s), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")) == 0
}
