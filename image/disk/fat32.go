package disk

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// A FAT32 of our own, written once, with one file in it. go-diskfs could do it, but at 1.9.4 its
// nested folders have a ".." that fsck.fat repairs, its free count is unset, its times are those
// of the build, and it writes 512 bytes at a time. What a slot holds is always the same four
// directory entries and one contiguous file, which takes a page of code.

const (
	fatReserved = 32    // sectors before the first FAT
	fatInfo     = 1     // sector of FSInfo
	fatBackup   = 6     // sector of the backup boot sector; FSInfo's follows it
	fatMinimum  = 65525 // clusters; with fewer it is a FAT16 to every reader
	fatFirst    = 2     // the first cluster's number

	// The folders and the file, in clusters.
	rootCluster = fatFirst
	efiCluster  = 3
	bootCluster = 4
	fileCluster = 5

	attrVolume  = 0x08
	attrFolder  = 0x10
	attrArchive = 0x20
	// fatEpoch is 1 January 1980, the first day FAT can store.
	fatEpoch = 0x0021
	fatEnd   = 0x0fffffff
)

// fat32 is the geometry of a volume, all in sectors but the cluster count.
type fat32 struct {
	sectors, perCluster, perFAT, clusters uint32
}

// geometry picks the largest clusters that still make it a FAT32: fewer and longer runs for a
// firmware that reads cluster by cluster.
func geometry(size int64) (fat32, error) {
	g := fat32{sectors: uint32(size / sector)}
	if size/sector > math.MaxUint32 || size <= fatReserved*sector {
		return g, fmt.Errorf("format FAT32: size of %d bytes", size)
	}
	for g.perCluster = 64; g.perCluster > 0; g.perCluster /= 2 {
		// A cluster costs its sectors and four bytes in each of two FATs.
		space := int64(g.sectors) - fatReserved
		n := space * sector / (int64(g.perCluster)*sector + 8)
		g.perFAT = uint32(((n+fatFirst)*4 + sector - 1) / sector)
		g.clusters = uint32(space-2*int64(g.perFAT)) / g.perCluster
		if g.clusters >= fatMinimum {
			return g, nil
		}
	}
	return g, fmt.Errorf("format FAT32: %d bytes are too few", size)
}

// cluster is the byte offset of a cluster in the volume.
func (g fat32) cluster(n uint32) int64 {
	return (fatReserved + 2*int64(g.perFAT) + int64(n-fatFirst)*int64(g.perCluster)) * sector
}

// writeFAT32 writes a volume whose only file is \EFI\BOOT\BOOTX64.EFI. What w holds must be zero;
// hidden is the number of sectors before the volume on its disk.
func writeFAT32(w io.WriterAt, size int64, hidden uint32, label string, file []byte) error {
	g, err := geometry(size)
	if err != nil {
		return err
	}
	bytesPer := int(g.perCluster) * sector
	used := uint32((len(file) + bytesPer - 1) / bytesPer)
	if len(file) == 0 || int64(used) > int64(g.clusters)-(fileCluster-fatFirst) {
		return fmt.Errorf("write FAT32: file of %d bytes does not fit", len(file))
	}

	boot, info := g.bootSector(hidden, label), g.infoSector(fileCluster+used)
	fat := binary.LittleEndian.AppendUint32(nil, 0x0ffffff8) // media byte
	for range bootCluster {
		fat = binary.LittleEndian.AppendUint32(fat, fatEnd) // clean-shutdown flags, then one cluster a folder
	}
	for n := uint32(1); n < used; n++ {
		fat = binary.LittleEndian.AppendUint32(fat, fileCluster+n)
	}
	fat = binary.LittleEndian.AppendUint32(fat, fatEnd)

	root := append(dirEntry(fmt.Sprintf("%-11.11s", label), attrVolume, 0, 0), dirEntry("EFI        ", attrFolder, efiCluster, 0)...)
	// The parent of a first-level folder is 0 by definition, not the root's cluster.
	efi := append(dots(efiCluster, 0), dirEntry("BOOT       ", attrFolder, bootCluster, 0)...)
	bootDir := append(dots(bootCluster, efiCluster), dirEntry("BOOTX64 EFI", attrArchive, fileCluster, uint32(len(file)))...)

	fatAt := int64(fatReserved * sector)
	for _, part := range []struct {
		at   int64
		data []byte
	}{
		{0, boot},
		{fatInfo * sector, info},
		{fatBackup * sector, boot},
		{(fatBackup + fatInfo) * sector, info},
		{fatAt, fat},
		{fatAt + int64(g.perFAT)*sector, fat},
		{g.cluster(rootCluster), root},
		{g.cluster(efiCluster), efi},
		{g.cluster(bootCluster), bootDir},
		{g.cluster(fileCluster), file},
	} {
		if _, err := w.WriteAt(part.data, part.at); err != nil {
			return fmt.Errorf("write FAT32 at %d: %w", part.at, err)
		}
	}
	return nil
}

func (g fat32) bootSector(hidden uint32, label string) []byte {
	le := binary.LittleEndian
	b := make([]byte, sector)
	copy(b, "\xeb\x58\x90RATCHET ")
	le.PutUint16(b[11:], sector)
	b[13] = byte(g.perCluster)
	le.PutUint16(b[14:], fatReserved)
	b[16] = 2    // FATs
	b[21] = 0xf8 // fixed disk
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[28:], hidden)
	le.PutUint32(b[32:], g.sectors)
	le.PutUint32(b[36:], g.perFAT)
	le.PutUint32(b[44:], rootCluster)
	le.PutUint16(b[48:], fatInfo)
	le.PutUint16(b[50:], fatBackup)
	b[64], b[66] = 0x80, 0x29
	copy(b[67:71], guidBytes("fat "+label))
	copy(b[71:], fmt.Sprintf("%-11.11sFAT32   ", label))
	b[510], b[511] = 0x55, 0xaa
	return b
}

// infoSector says how many clusters are free and which is the first of them.
func (g fat32) infoSector(next uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, sector)
	copy(b, "RRaA")
	copy(b[484:], "rrAa")
	le.PutUint32(b[488:], g.clusters+fatFirst-next)
	le.PutUint32(b[492:], next)
	le.PutUint32(b[508:], 0xaa550000)
	return b
}

func dirEntry(name string, attr byte, cluster, size uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, 32)
	copy(b[:11], name)
	b[11] = attr
	for _, at := range []int{16, 18, 24} { // created, accessed, written
		le.PutUint16(b[at:], fatEpoch)
	}
	le.PutUint16(b[20:], uint16(cluster>>16))
	le.PutUint16(b[26:], uint16(cluster))
	le.PutUint32(b[28:], size)
	return b
}

func dots(self, parent uint32) []byte {
	return append(dirEntry(".          ", attrFolder, self, 0), dirEntry("..         ", attrFolder, parent, 0)...)
}
