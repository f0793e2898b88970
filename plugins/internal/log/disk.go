package log

import (
	"errors"
	"hash/crc32"
	"io"
	"unsafe"
)

// BlockSize is the unit of every area and of all I/O, in bytes.
const BlockSize = 4096

// Disk is what the log is kept on. Offsets, lengths and the addresses of buffers are multiples
// of BlockSize (see AlignedBuffer), so that an implementation may use O_DIRECT.
//
// A write is durable after a Sync that started after it returned. Until then a crash
// may keep all, part or none of it, and in any order with others.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	// Size is in bytes and constant.
	Size() int64
}

var (
	// ErrNotFormatted means that no valid superblock of ours was found.
	ErrNotFormatted = errors.New("disk holds no write log")
	// ErrTooNew means that the disk was written by a newer version with features this one does not know.
	ErrTooNew = errors.New("disk format is newer than this software: boot the newer image")
	// ErrMediaCorrupt means that data known to have been durable cannot be read back.
	// Nothing has been changed; the owner decides how to recover.
	ErrMediaCorrupt = errors.New("media corruption: durable data cannot be read back")
	// ErrPoisoned means that an earlier write or sync failed. It lasts until the disk is opened anew.
	ErrPoisoned = errors.New("log is closed by an earlier I/O error")
	// ErrClosed means that the Committer has been stopped.
	ErrClosed = errors.New("log is closed")
	// ErrTooLarge means that something does not fit its area on the disk.
	ErrTooLarge = errors.New("too large for its area")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC-32C that all our on-disk formats use.
func Checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// AlignedBuffer returns n zero bytes at an address that is a multiple of BlockSize.
func AlignedBuffer(n int) []byte {
	b := make([]byte, n+BlockSize)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (BlockSize - 1)
	return b[skip : skip+n : skip+n]
}

func roundUp(n int64) int64 { return (n + BlockSize - 1) &^ (BlockSize - 1) }
