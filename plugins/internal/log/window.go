package log

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// window is the memory that groups are built in and that holds the youngest bytes of the log:
// position p lies at mem[p % len(mem)]. With a header page before it, it is the acknowledgement
// ring: memory that outlives the process, from which Recover takes what never reached the disk.
//
// Readers take no lock. They copy, and ask afterwards whether the place was still young; the
// writer moves young before it overwrites anything.
type window struct {
	ring ring
	mem  []byte
	// young is the position from which on the window holds the log.
	young atomic.Int64
}

func newWindow(p []byte, segment int64) (*window, error) {
	if p == nil {
		p = AlignedBuffer(int(BlockSize + windowSegments*segment))
	}
	n := int64(len(p)) - BlockSize
	if n < 2*segment || n%segment != 0 || uintptr(unsafe.Pointer(&p[0]))%BlockSize != 0 {
		return nil, fmt.Errorf("window of %d bytes: need a page and at least two segments of %d bytes, aligned to pages", len(p), segment)
	}
	return &window{ring: ring{p[:BlockSize]}, mem: p[BlockSize:]}, nil
}

func (w *window) size() int64 { return int64(len(w.mem)) }

// at is the memory of n bytes from pos on, which do not cross a segment.
func (w *window) at(pos, n int64) []byte {
	off := pos % w.size()
	return w.mem[off : off+n : off+n]
}

// read copies from the window and reports whether it held all of it. The bytes do not cross a segment.
func (w *window) read(p []byte, pos int64) bool {
	if pos < w.young.Load() {
		return false
	}
	copyTorn(p, w.at(pos, int64(len(p))))
	return pos >= w.young.Load()
}

// wordAt is an 8-byte word of shared memory that is stored and read whole. p is aligned.
func wordAt(p []byte, off int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&p[off : off+8][0]))
}

// ring is the header page of a window that outlives the process.
//
//	0 magic  8 size of the window  16 UUID  32 id  40 epoch  48 next epoch  56 open group
type ring struct{ p []byte }

const (
	ringMagic   = 0x31474e5248435452 // "RTCHRNG1"
	ringSize    = 8
	ringUUID    = 16
	ringID      = 32
	ringEpoch   = 40
	ringPending = 48
	ringOpen    = 56
)

// claim makes an unused or foreign ring ours, empty.
func (r ring) claim(sb *Superblock, size int64, id uint64) {
	wordAt(r.p, 0).Store(0) // not ours until all of it is
	clear(r.p)
	copy(r.p[ringUUID:], sb.UUID[:])
	wordAt(r.p, ringSize).Store(uint64(size))
	wordAt(r.p, ringID).Store(id)
	wordAt(r.p, ringEpoch).Store(sb.Epoch)
	wordAt(r.p, 0).Store(ringMagic)
}

// continues reports whether the last opening of the disk used this very ring, so that what it
// holds is what comes after the groups on the disk. An opening that was killed between the
// superblock and the ring is known by the epoch it had announced. epoch is the disk's newest.
func (r ring) continues(sb *Superblock, epoch uint64, size int64) bool {
	return wordAt(r.p, 0).Load() == ringMagic && wordAt(r.p, ringSize).Load() == uint64(size) &&
		[16]byte(r.p[ringUUID:ringUUID+16]) == sb.UUID && wordAt(r.p, ringID).Load() == sb.Ring && sb.Ring != 0 &&
		(wordAt(r.p, ringEpoch).Load() == epoch || wordAt(r.p, ringPending).Load() == epoch)
}

func (r ring) announce(e uint64) { wordAt(r.p, ringPending).Store(e) }
func (r ring) begin(e uint64)    { wordAt(r.p, ringEpoch).Store(e) }
func (r ring) setOpen(pos int64) { wordAt(r.p, ringOpen).Store(uint64(pos)) }
func (r ring) open() int64       { return int64(wordAt(r.p, ringOpen).Load()) }

func putU64(p []byte, v uint64) { binary.LittleEndian.PutUint64(p, v) }
func putU32(p []byte, v uint32) { binary.LittleEndian.PutUint32(p, v) }
func getU64(p []byte) uint64    { return binary.LittleEndian.Uint64(p) }
func getU32(p []byte) uint32    { return binary.LittleEndian.Uint32(p) }
