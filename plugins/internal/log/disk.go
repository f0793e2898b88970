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

// CachedReader is what a Disk may be besides: a second way to read it, through a cache and
// at any offset, length and address. What WriteAt wrote is seen by it.
type CachedReader interface {
	ReadCached(p []byte, off int64) error
	// TryReadCached reads only what the cache holds, without waiting.
	TryReadCached(p []byte, off int64) bool
	// Fetch begins to read what the cache does not hold. It is a hint, and does not wait for the data.
	Fetch(off, n int64)
}

var (
	// ErrNotFormatted means that no valid superblock of ours was found.
	ErrNotFormatted = errors.New("disk holds no write log")
	// ErrTooNew means that the disk was written by a newer version with features this one does not know.
	ErrTooNew = errors.New("disk format is newer than this software: boot the newer image")
	// ErrOldFormat means a layout of before the first release.
	ErrOldFormat = errors.New("disk holds a write log of a development version: empty it with that version, then erase the disk")
	// ErrMediaCorrupt means that data known to have been durable cannot be read back.
	// Nothing has been changed; the owner decides how to recover.
	ErrMediaCorrupt = errors.New("media corruption: durable data cannot be read back")
	// ErrPoisoned means that an earlier write or sync failed. It lasts until the disk is opened anew.
	ErrPoisoned = errors.New("log is closed by an earlier I/O error")
	// ErrClosed means that Run has ended.
	ErrClosed = errors.New("log is closed")
	// ErrTooLarge means that something does not fit its area on the disk.
	ErrTooLarge = errors.New("too large for its area")
	// ErrWindowFull means that Append must wait for the disk; see WaitRoom.
	ErrWindowFull = errors.New("window is full")
	// ErrLogFull means that Append must wait for the tail; see WaitRoom.
	ErrLogFull = errors.New("log is full")
	// ErrGone means that a position has been reused: its data is elsewhere or nowhere.
	ErrGone = errors.New("log position has been reused")
	// ErrStop ends a Scan early.
	ErrStop = errors.New("stop")
)

var errInvalid = errors.New("invalid")

// crc32 makes the table on first use: nothing happens when the package is loaded.
func updateSum(sum uint32, p []byte) uint32 {
	return crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), p)
}

// Checksum is the CRC-32C that all our on-disk formats use.
func Checksum(p []byte) uint32 { return updateSum(0, p) }

// AlignedBuffer returns n zero bytes at an address that is a multiple of BlockSize.
func AlignedBuffer(n int) []byte {
	b := make([]byte, n+BlockSize)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (BlockSize - 1)
	return b[skip : skip+n : skip+n]
}

// aligned reports whether p may be given to a Disk.
func aligned(p []byte) bool {
	return len(p) > 0 && len(p)%BlockSize == 0 && uintptr(unsafe.Pointer(&p[0]))%BlockSize == 0
}

func roundUp(n int64) int64 { return (n + BlockSize - 1) &^ (BlockSize - 1) }
