package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	diskfs "github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/filesystem/ext4"

	"github.com/ratchetos/ratchet/boot/luks"
)

// blockSize makes STATE one block group, at most 128 MiB: one superblock, no backups.
const blockSize = 4096

// StateTemplate is the start of the file system that STATE gets on its first boot, up to the last byte that
// is not zero: init writes it into the volume that it has just encrypted, and needs no mkfs for it. What
// lies behind it may hold anything.
//
// The features are the conservative ones: no metadata checksums (go-diskfs would need the
// checksum driver at mount, and every release since 2.6.28 can mount this), no resize inode
// (unsupported by go-diskfs at this block size).
func StateTemplate() (template []byte, err error) {
	dir, err := os.MkdirTemp("", "ratchet-state-")
	if err != nil {
		return nil, fmt.Errorf("make STATE: %w", err)
	}
	defer os.RemoveAll(dir)
	const size = stateSize - luks.DataOffset
	d, err := diskfs.Create(filepath.Join(dir, "state.ext4"), size, diskfs.SectorSize512)
	if err != nil {
		return nil, fmt.Errorf("make STATE: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	id := guid("fs " + State)
	if _, err := ext4.Create(d.Backend, size, 0, sector, &ext4.Params{
		UUID:            &id,
		VolumeName:      State,
		SectorsPerBlock: blockSize / sector,
		Features: []ext4.FeatureOpt{
			ext4.WithFeatureHasJournal(true),
			ext4.WithFeatureReservedGDTBlocksForExpansion(false),
		},
	}); err != nil {
		return nil, fmt.Errorf("make STATE: format: %w", err)
	}
	w, err := d.Backend.Writable()
	if err != nil {
		return nil, fmt.Errorf("make STATE: %w", err)
	}
	if err := normalise(w); err != nil {
		return nil, fmt.Errorf("make STATE: normalise: %w", err)
	}
	whole := make([]byte, size)
	if _, err := w.ReadAt(whole, 0); err != nil {
		return nil, fmt.Errorf("make STATE: %w", err)
	}
	end := len(bytes.TrimRight(whole, "\x00"))
	return whole[:(end+blockSize-1)/blockSize*blockSize], nil
}

// Offsets of what mkfs makes different each time.
const (
	superOffset = 1024
	superMTime  = 0x2c // last mount, last write follow each other
	superCheck  = 0x40
	superSeed   = 0xec // 16 bytes, of directory hashes
	superMkfs   = 0x108

	inodeSize   = 256
	inodeTimes  = 0x8 // access, change, modification
	inodeSumLo  = 0x7c
	inodeSumHi  = 0x82
	inodeExtra  = 0x84 // change, modification, access (extra bits), creation, creation extra
	inodeCreate = 0x90
	reserved    = 11 // inodes 1 to 11 are all a new file system can have
	groupTable  = 8  // in the group descriptor: first block of the inode table
)

// normalise removes the time of creation and the random hash seed from a new file system. The
// seed becomes the file system's UUID; it only spreads names over directory blocks.
func normalise(f backend.WritableFile) error {
	le := binary.LittleEndian
	super := make([]byte, 1024)
	if _, err := f.ReadAt(super, superOffset); err != nil {
		return fmt.Errorf("read superblock: %w", err)
	}
	clear(super[superMTime : superMTime+8])
	clear(super[superCheck : superCheck+4])
	clear(super[superMkfs : superMkfs+4])
	copy(super[superSeed:superSeed+16], super[0x68:0x78])
	if _, err := f.WriteAt(super, superOffset); err != nil {
		return fmt.Errorf("write superblock: %w", err)
	}

	var group [16]byte
	if _, err := f.ReadAt(group[:], blockSize); err != nil {
		return fmt.Errorf("read group descriptor: %w", err)
	}
	at := int64(le.Uint32(group[groupTable:])) * blockSize
	inodes := make([]byte, reserved*inodeSize)
	if _, err := f.ReadAt(inodes, at); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read inodes: %w", err)
	}
	for i := range reserved {
		in := inodes[i*inodeSize:][:inodeSize]
		clear(in[inodeTimes : inodeTimes+12])
		// Without the checksum feature these two are padding that go-diskfs fills anyway.
		clear(in[inodeSumLo : inodeSumLo+2])
		clear(in[inodeSumHi : inodeSumHi+2])
		clear(in[inodeExtra : inodeCreate+8])
	}
	if _, err := f.WriteAt(inodes, at); err != nil {
		return fmt.Errorf("write inodes: %w", err)
	}
	return nil
}
