package index

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
)

func mustNew(t testing.TB, blocks uint64) *Index {
	t.Helper()
	x, err := New(blocks)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const modelBlocks = 5*BlocksPerChunk + 100

// TestModel changes an index and a plain slice alike, in all ways there are.
func TestModel(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		x := mustNew(t, modelBlocks)
		model := make([]Entry, modelBlocks)
		for step := range 1500 {
			first := r.Uint64N(modelBlocks)
			n := min(1+r.Uint64N(1<<r.IntN(12)), modelBlocks-first)
			place := r.Uint32()
			switch k := r.IntN(20); {
			case k < 8:
				sums := make([]uint32, min(n, 300))
				for i := range sums {
					sums[i] = r.Uint32()
				}
				must(t, x.Prepare(first, uint64(len(sums))))
				x.Run(first, place, sums, Dirty)
				for i, s := range sums {
					model[first+uint64(i)] = Dirty(place+uint32(i), s)
				}
			case k < 12:
				e := [...]Entry{Zero(place), 0, Nothing}[r.IntN(3)]
				must(t, x.PrepareZero())
				x.Fill(first, n, e)
				for i := range n {
					model[first+i] = e
				}
			case k < 13:
				must(t, x.Prepare(first, 1))
				x.Set(first, Patched)
				model[first] = Patched
			case k < 16:
				e := x.Get(first)
				if x.Touch(first, e); e.IsData() {
					model[first] = model[first]&^ahead | hot
				}
			case k < 17:
				drop := func(e Entry) Entry {
					if e.Placed() && e.Place()%3 == 0 {
						return 0
					}
					return e
				}
				for c, more := uint64(0), true; more; {
					c, more = x.Sweep(c, 2000, func(_, _ uint64, e Entry) Entry { return drop(e) })
				}
				for i := range model {
					model[i] = drop(model[i])
				}
			case k < 18:
				x = reload(t, x, model)
			default:
				for b := first; b < first+n; {
					e, span := x.Lookup(b)
					for i := range min(span, first+n-b) {
						if model[b+i] != e {
							t.Fatalf("seed %d step %d: block %d: %#x, want %#x", seed, step, b+i, e, model[b+i])
						}
					}
					b += span
				}
			}
		}
		compare(t, x, model)
	}
}

func compare(t *testing.T, x *Index, model []Entry) {
	t.Helper()
	held := int64(0)
	for b, want := range model {
		if got := x.Get(uint64(b)); got != want {
			t.Fatalf("block %d: %#x, want %#x", b, got, want)
		}
		if want.IsData() {
			held++
		}
	}
	if x.Held() != held {
		t.Fatalf("%d blocks held, want %d", x.Held(), held)
	}
}

// reload takes an index through its dump; patched entries are not part of one.
func reload(t *testing.T, x *Index, model []Entry) *Index {
	t.Helper()
	var b bytes.Buffer
	must(t, x.Dump(&b, x.Blocks()))
	next := mustNew(t, x.Blocks())
	must(t, next.Load(bytes.NewReader(b.Bytes()), func(Entry) bool { return true }))
	for i := range model {
		if model[i].IsPatched() || model[i] == Nothing {
			model[i] = 0
		}
	}
	compare(t, next, model)
	return next
}

// TestReaders looks while one goroutine changes, and makes the index larger: a reader may see an older or a newer entry of its block, but never
// another block's, though nodes are freed and reused all the time.
func TestReaders(t *testing.T) {
	const blocks = 64 * BlocksPerChunk
	x := mustNew(t, blocks)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for id := range uint64(3) {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(id, 2))
			for {
				select {
				case <-stop:
					return
				default:
				}
				b := r.Uint64N(x.Blocks())
				e := x.Get(b)
				// The writer's places are block numbers.
				if e.Placed() && uint64(e.Place()) != b && uint64(e.Place()) != 1<<31 {
					t.Errorf("block %d has the entry of block %d", b, e.Place())
					return
				}
				x.Touch(b, e)
			}
		})
	}
	r := rand.New(rand.NewPCG(9, 9))
	for i := range 10000 {
		if i%500 == 0 {
			must(t, x.Grow(x.Blocks()+BlocksPerChunk/2))
		}
		b := r.Uint64N(blocks - BlocksPerChunk)
		switch r.IntN(4) {
		case 0, 1:
			must(t, x.Prepare(b, 20))
			x.Run(b, uint32(b), make([]uint32, 20), Clean)
		case 2:
			must(t, x.PrepareZero())
			x.Fill(b, 1+r.Uint64N(BlocksPerChunk), Zero(1<<31))
		case 3:
			x.Sweep(b/BlocksPerChunk, 3000, func(_, _ uint64, e Entry) Entry {
				if r.IntN(2) == 0 {
					return 0
				}
				return e
			})
		}
	}
	close(stop)
	readers.Wait()
}

// TestMemory holds the index to its promise: 2.2 bytes per KiB held, 8 bytes per 4 MiB of volume.
func TestMemory(t *testing.T) {
	const size = 16 << 40
	x := mustNew(t, size/4096)
	if got, want := x.Bytes(), int64(size/(4<<20)*8); got > want+(1<<20) {
		t.Errorf("an empty volume of 16 TiB: %d bytes, want %d", got, want)
	}
	must(t, x.PrepareZero())
	x.Fill(0, x.Blocks(), Zero(7))
	empty := x.Bytes()
	const heldBlocks = 1 << 20 // 4 GiB
	sums := make([]uint32, BlocksPerChunk)
	for b := uint64(0); b < heldBlocks; b += BlocksPerChunk {
		must(t, x.Prepare(b*16, BlocksPerChunk))
		x.Run(b*16, uint32(b), sums, Dirty)
	}
	perKiB := float64(x.Bytes()-empty) / (heldBlocks * 4)
	if perKiB > 2.2 {
		t.Errorf("%.3f bytes per KiB held", perKiB)
	}
	x.Fill(0, x.Blocks(), 0)
	before := x.Bytes()
	for b := uint64(0); b < heldBlocks; b += BlocksPerChunk {
		must(t, x.Prepare(b, BlocksPerChunk))
		x.Run(b, uint32(b), sums, Dirty)
	}
	if x.Bytes() != before {
		t.Errorf("freed nodes are not reused: %d bytes, then %d", before, x.Bytes())
	}
}

func TestGrow(t *testing.T) {
	x := mustNew(t, 100)
	must(t, x.Prepare(99, 1))
	x.Set(99, Dirty(1, 2))
	must(t, x.Grow(10*BlocksPerChunk))
	must(t, x.Prepare(9*BlocksPerChunk, 1))
	x.Set(9*BlocksPerChunk, Dirty(3, 4))
	if x.Get(99) != Dirty(1, 2) || x.Get(9*BlocksPerChunk) != Dirty(3, 4) || x.Get(200) != 0 {
		t.Error("entries changed with the size")
	}
}

// TestLoadSmaller loads dumps of a volume that was larger: what is behind the end is left out. A dump of a part holds no more
// than that.
func TestLoadSmaller(t *testing.T) {
	const large, small = 4 * BlocksPerChunk, BlocksPerChunk + 100
	x := mustNew(t, large)
	must(t, x.Prepare(small-60, 1))
	x.Set(small-60, Dirty(8, 9))
	x.Fill(small-50, large-small, Zero(7)) // across the end
	x.Fill(large-1, 1, Zero(6))            // behind it
	for _, blocks := range []uint64{large, small} {
		var b bytes.Buffer
		must(t, x.Dump(&b, blocks))
		part := mustNew(t, small)
		must(t, part.Load(bytes.NewReader(b.Bytes()), func(Entry) bool { return true }))
		if part.Get(small-60) != Dirty(8, 9) || part.Get(small-1) != Zero(7) || part.Get(small) != 0 {
			t.Errorf("dump of %d blocks: %#x before the end, %#x behind it", blocks, part.Get(small-1), part.Get(small))
		}
		whole := mustNew(t, large)
		must(t, whole.Load(&b, func(Entry) bool { return true }))
		if got := whole.Get(small) == Zero(7) && whole.Get(large-1) == Zero(6); got != (blocks == large) {
			t.Errorf("dump of %d blocks: %#x behind them", blocks, whole.Get(small))
		}
	}
}

func FuzzLoad(f *testing.F) {
	x := mustNew(f, modelBlocks)
	must(f, x.Prepare(0, 3*BlocksPerChunk))
	x.Run(40, 7, make([]uint32, 40), Dirty)
	x.Fill(3000, 1500, Zero(9))
	x.Set(modelBlocks-1, Ahead(11, 12))
	var b bytes.Buffer
	must(f, x.Dump(&b, modelBlocks))
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, p []byte) {
		x := mustNew(t, modelBlocks)
		if x.Load(bytes.NewReader(p), func(Entry) bool { return true }) != nil {
			return
		}
		var out bytes.Buffer
		must(t, x.Dump(&out, modelBlocks))
		again := mustNew(t, modelBlocks)
		must(t, again.Load(&out, func(Entry) bool { return true }))
		for b := range uint64(modelBlocks) {
			if x.Get(b) != again.Get(b) {
				t.Fatalf("block %d: %#x, after a dump %#x", b, x.Get(b), again.Get(b))
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	x := mustNew(b, 1<<20)
	for c := uint64(0); c < 1<<20; c += BlocksPerChunk {
		must(b, x.Prepare(c, BlocksPerChunk))
		x.Run(c, uint32(c), make([]uint32, BlocksPerChunk), Dirty)
	}
	for i := uint64(0); b.Loop(); i++ {
		if !x.Get(i * 7919 % (1 << 20)).IsData() {
			b.Fatal("absent")
		}
	}
}

func BenchmarkSet(b *testing.B) {
	x := mustNew(b, 1<<20)
	for i := uint64(0); b.Loop(); i++ {
		n := i * 7919 % (1 << 20)
		must(b, x.Prepare(n, 1))
		x.Set(n, Dirty(uint32(i), uint32(i)))
	}
}
