package manifest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// Writer packs frames, or leaves, into one object. It is used by one goroutine. At the end of a data object
// stands a directory of its cells, so that a collector finds what still lives in it:
//
//	frames… | cells, as differences | CRC-32C of them | their length
type Writer struct {
	sealer *Sealer
	thrift thrift
	object Object
	data   []byte
	cells  []byte
	last   uint64
	sum    hash.Hash
	hashes []byte // that are not in sum yet; they go in together, for to a hash.Hash they go by the heap
	buf    []byte
	done   bool
}

const trailerSize = 8

// NewWriter starts the object of the given kind, epoch and number.
func NewWriter(kind Kind, epoch, number uint32, s *Sealer) *Writer {
	return &Writer{
		sealer: s, object: Object{Number: number, Epoch: epoch, Kind: kind}, sum: sha256.New(),
		hashes: make([]byte, 0, 64*sha256.Size), buf: make([]byte, 0, bindingSize),
	}
}

// Reuse takes over buf's memory for the data.
func (w *Writer) Reuse(buf []byte) { w.data = buf[:0] }

// Len is the number of bytes so far.
func (w *Writer) Len() int { return len(w.data) }

// Full reports whether a frame might not fit any more.
func (w *Writer) Full() bool {
	return len(w.data)+len(w.cells)+maxFrame+binary.MaxVarintLen64+trailerSize > objstore.MaxObject
}

// Add appends the frame of a cell that holds blocks, one for each bit of mask.
func (w *Writer) Add(cell uint64, mask uint16, blocks []byte) (CellFrame, error) {
	if w.Full() {
		return CellFrame{}, fmt.Errorf("add frame to object %d: it is full", w.object.Number)
	}
	start := len(w.data)
	data, err := appendBlocks(w.data, blocks, &w.thrift, w.sealer, binding{epoch: w.object.Epoch, number: w.object.Number, cell: cell, blocks: mask}, w.buf)
	if err != nil {
		return CellFrame{}, fmt.Errorf("add frame to object %d: %w", w.object.Number, err)
	}
	w.data = data
	return w.listed(cell, Frame{Offset: uint32(start), Blocks: mask, Live: mask, Hash: Sum(data[start:])}), nil
}

// Move appends a frame of another object as it is, all of it live; p are its bytes there. Sealed frames are bound to their
// object and cannot be moved.
func (w *Writer) Move(cell uint64, f *Frame, p []byte) (CellFrame, error) {
	switch {
	case w.Full():
		return CellFrame{}, fmt.Errorf("move frame to object %d: it is full", w.object.Number)
	case w.sealer != nil || f.Live != f.Blocks:
		return CellFrame{}, fmt.Errorf("move frame to object %d: it must be made anew", w.object.Number)
	case Sum(p) != f.Hash:
		return CellFrame{}, fmt.Errorf("move frame to object %d: hash: %w", w.object.Number, ErrInvalid)
	}
	start := len(w.data)
	w.data = append(w.data, p...)
	return w.listed(cell, Frame{Offset: uint32(start), Blocks: f.Blocks, Live: f.Live, Hash: f.Hash}), nil
}

// listed completes the frame that data ends with, and lists its cell.
func (w *Writer) listed(cell uint64, f Frame) CellFrame {
	w.cells = binary.AppendVarint(w.cells, int64(cell-w.last))
	w.last = cell
	f.Object, f.Length = w.object.Number, uint32(len(w.data))-f.Offset
	w.hash(&f.Hash)
	return CellFrame{Cell: cell, Frame: f}
}

// AddLeaf appends an encoded leaf and returns where it is.
func (w *Writer) AddLeaf(p []byte) LeafRef {
	ref := LeafRef{Object: w.object.Number, Offset: uint32(len(w.data)), Length: uint32(len(p)), Hash: Sum(p)}
	w.data = append(w.data, p...)
	w.hash(&ref.Hash)
	return ref
}

func (w *Writer) hash(h *Hash) {
	if w.hashes = append(w.hashes, h[:]...); len(w.hashes) == cap(w.hashes) {
		w.sum.Write(w.hashes)
		w.hashes = w.hashes[:0]
	}
}

// Finish returns the object's bytes and its entry in the table. The name covers the hashes of all that
// is in it and the directory; so it stands for the content without hashing all of that twice.
func (w *Writer) Finish() ([]byte, Object) {
	if !w.done {
		w.done = true
		dir := binary.LittleEndian.AppendUint32(w.cells, crc32c(w.cells))
		dir = binary.LittleEndian.AppendUint32(dir, uint32(len(w.cells)))
		w.data = append(w.data, dir...)
		w.sum.Write(w.hashes)
		w.sum.Write(dir)
		w.object.Size = uint32(len(w.data))
		w.object.Tag = Hash(w.sum.Sum(nil)).Tag()
	}
	return w.data, w.object
}

// DirectorySize is how many bytes at the end of an object to fetch for ReadDirectory: enough for n frames.
func DirectorySize(n int) int { return 3*n + trailerSize }

// ReadDirectory lists the cells of a data object, from its last bytes. When tail is too short it returns how many
// bytes are needed instead.
func ReadDirectory(tail []byte) (cells []uint64, need int, err error) {
	if len(tail) < trailerSize {
		return nil, 0, fmt.Errorf("read directory: %d bytes: %w", len(tail), ErrInvalid)
	}
	at := len(tail) - trailerSize
	sum, n := binary.LittleEndian.Uint32(tail[at:]), binary.LittleEndian.Uint32(tail[at+4:])
	if n > objstore.MaxObject {
		return nil, 0, fmt.Errorf("read directory: length %d: %w", n, ErrInvalid)
	}
	if int(n) > at {
		return nil, int(n) + trailerSize, nil
	}
	p := tail[at-int(n) : at]
	if crc32c(p) != sum {
		return nil, 0, fmt.Errorf("read directory: checksum: %w", ErrInvalid)
	}
	for last := uint64(0); len(p) > 0; {
		d, used := binary.Varint(p)
		if used <= 0 {
			return nil, 0, fmt.Errorf("read directory: number: %w", ErrInvalid)
		}
		p = p[used:]
		last += uint64(d)
		cells = append(cells, last)
	}
	return cells, 0, nil
}
