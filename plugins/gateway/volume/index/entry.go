package index

// Entry says where a block is. The zero value is absent: ask the store's manifest.
//
//	63..62  kind
//	61      clean: the store holds the same bytes
//	60      hot: read since it was appended
//	59      ahead: fetched by read-ahead and not read yet
//	55..32  low 24 bits of the block's CRC-32C
//	31..0   place: block number in the circular log
type Entry uint64

const (
	kindMask Entry = 3 << 62
	kindData Entry = 1 << 62
	kindZero Entry = 2 << 62
	// Patched is a block of the store with newer byte ranges over it; the owner knows those.
	Patched Entry = 3 << 62

	// Nothing is a block that the store is known to hold nothing of. It is no more than a memory of the manifest's
	// answer: it may be forgotten at any time, and dumps leave it out.
	Nothing = kindZero | clean

	clean Entry = 1 << 61
	hot   Entry = 1 << 60
	ahead Entry = 1 << 59

	sumBits = 24
	sumMask = 1<<sumBits - 1
)

// Dirty is a block of the log that a client wrote.
func Dirty(place, sum uint32) Entry { return kindData | Entry(sum&sumMask)<<32 | Entry(place) }

// Clean is a block of the log that was fetched or kept: the store has it too.
func Clean(place, sum uint32) Entry { return Dirty(place, sum) | clean }

// Ahead is a clean block that was fetched before anybody asked for it.
func Ahead(place, sum uint32) Entry { return Clean(place, sum) | ahead }

// Zero is a block that reads as zeroes because of the record at place.
func Zero(place uint32) Entry { return kindZero | Entry(place) }

// IsData reports whether the block's bytes are in the log.
func (e Entry) IsData() bool { return e&kindMask == kindData }

// IsZero reports whether the block is known to be zeroes; an absent one may be, too.
func (e Entry) IsZero() bool { return e&kindMask == kindZero }

// IsPatched reports whether the block is Patched.
func (e Entry) IsPatched() bool { return e&kindMask == Patched }

// IsClean reports whether the block was appended as a copy of the store's.
func (e Entry) IsClean() bool { return e&clean != 0 }

// IsHot reports whether the block has been read since it was appended.
func (e Entry) IsHot() bool { return e&hot != 0 }

// IsAhead reports whether read-ahead brought the block and nobody has read it.
func (e Entry) IsAhead() bool { return e&ahead != 0 }

// Place is the block number in the log of the data, or of the record that made it zeroes.
func (e Entry) Place() uint32 { return uint32(e) }

// Placed reports whether the entry refers to the log.
func (e Entry) Placed() bool { return e.IsData() || e.IsZero() && e != Nothing }

// Matches reports whether a block with this CRC-32C can be the one the entry means.
func (e Entry) Matches(sum uint32) bool { return uint32(e>>32)&sumMask == sum&sumMask }

// Same reports whether both mean the same bytes: reads do not change that.
func (e Entry) Same(o Entry) bool { return e&^(hot|ahead) == o&^(hot|ahead) }
