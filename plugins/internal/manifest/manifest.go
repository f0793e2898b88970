package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Units, in bytes and blocks.
const (
	BlockSize     = 4096
	CellSize      = 64 << 10
	ChunkSize     = 4 << 20
	LeafSize      = 64 << 20
	BlocksPerCell = CellSize / BlockSize
	CellsPerChunk = ChunkSize / CellSize
	ChunksPerLeaf = LeafSize / ChunkSize
	CellsPerLeaf  = LeafSize / CellSize
	// MaxSize of a volume in bytes. It bounds what a decoder allocates.
	MaxSize = 1 << 46
)

var (
	// ErrInvalid means that bytes are not what this package wrote.
	ErrInvalid = errors.New("invalid")
	// ErrTooNew means that they come from a version with features this one does not know.
	ErrTooNew = errors.New("written by a newer version")
)

// Hash is a SHA-256.
type Hash [sha256.Size]byte

// Sum hashes p.
func Sum(p []byte) Hash { return sha256.Sum256(p) }

// Tag is the first half of a Hash: what names of objects carry.
type Tag [16]byte

// Tag of the hash.
func (h Hash) Tag() Tag { return Tag(h[:16]) }

// Kind of an immutable object.
type Kind uint8

// The kinds. The numbers are part of the format.
const (
	KindData Kind = iota
	KindLeaf
	KindDelta
	KindPart
	KindRoot
	kinds
)

var kindNames = [kinds]string{"data", "leaf", "delta", "part", "root"}

// Kinds lists them all.
func Kinds() []Kind { return []Kind{KindData, KindLeaf, KindDelta, KindPart, KindRoot} }

func (k Kind) String() string {
	if k >= kinds {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return kindNames[k]
}

// ID names an immutable object. Number is the object's own for data and leaves, and the sequence
// number of the head at which it was made for the others.
type ID struct {
	Kind   Kind
	Epoch  uint64
	Number uint64
	Tag    Tag
}

// String is the key of the object below its volume.
func (id ID) String() string {
	return fmt.Sprintf("%s/%08x/%016x-%s", id.Kind, id.Epoch, id.Number, hex.EncodeToString(id.Tag[:]))
}

// IsZero reports whether it names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// Matches reports whether p is the content that the ID names.
func (id ID) Matches(p []byte) bool { return Sum(p).Tag() == id.Tag }

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	bad := func() (ID, error) { return ID{}, fmt.Errorf("object name %q: %w", s, ErrInvalid) }
	kind, rest, ok1 := strings.Cut(s, "/")
	epoch, rest, ok2 := strings.Cut(rest, "/")
	number, tag, ok3 := strings.Cut(rest, "-")
	if !ok1 || !ok2 || !ok3 || len(tag) != 2*len(Tag{}) {
		return bad()
	}
	var id ID
	var err error
	for id.Kind = 0; id.Kind < kinds && kindNames[id.Kind] != kind; id.Kind++ {
	}
	if id.Kind == kinds {
		return bad()
	}
	if id.Epoch, err = strconv.ParseUint(epoch, 16, 64); err != nil {
		return bad()
	}
	if id.Number, err = strconv.ParseUint(number, 16, 64); err != nil {
		return bad()
	}
	if _, err := hex.Decode(id.Tag[:], []byte(tag)); err != nil || id.String() != s {
		return bad()
	}
	return id, nil
}

// Object is one entry of the table of objects that frames or leaves lie in.
type Object struct {
	Number uint32 // given once in the life of a volume
	Epoch  uint32
	Size   uint32 // in bytes
	Live   uint32 // bytes of it that the manifest refers to
	Kind   Kind   // KindData or KindLeaf
	Tag    Tag
}

// ID of the object.
func (o *Object) ID() ID {
	return ID{Kind: o.Kind, Epoch: uint64(o.Epoch), Number: uint64(o.Number), Tag: o.Tag}
}

// Frame is some blocks of one cell inside an object.
type Frame struct {
	Object uint32 // number
	Offset uint32 // in bytes
	Length uint32
	Blocks uint16 // bit i: block i of the cell is in the frame
	Live   uint16 // subset of Blocks that nothing newer replaces
	Hash   Hash   // of the Length bytes
}

// Range is a run of blocks.
type Range struct{ First, Count uint64 }

// CellFrame is a frame and the cell it belongs to.
type CellFrame struct {
	Cell uint64
	Frame
}

// Delta is what one batch changes: first Zeros, then Frames in order. A delta made of several
// carries in Live which of a frame's blocks still count.
type Delta struct {
	Epoch   uint64
	After   uint64 // sequence number that the manifest before it covers
	Seq     uint64 // sequence number that it covers
	Objects []Object
	Zeros   []Range
	Frames  []CellFrame
}
