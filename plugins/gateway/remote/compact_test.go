package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/faults"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/objstoretest"
)

// big is a volume of three leaves.
const big = 3 * manifest.LeafSize

// history drives one volume through sessions, against one byte for each block.
type history struct {
	t     *testing.T
	rng   *rand.Rand
	store *faults.Store
	clock time.Time
	opts  Options
	r     *Remote
	seq   uint64
	model map[uint64]byte // block to the byte it is full of
	cells map[uint64]bool // that were ever written
}

func newHistory(t *testing.T, seed uint64, o Options) *history {
	h := &history{
		t: t, rng: rand.New(rand.NewPCG(seed, 7)), clock: time.Unix(1e9, 0), model: map[uint64]byte{}, cells: map[uint64]bool{},
		store: faults.New(objstoretest.NewMemory(), faults.Options{}),
	}
	o.Store, o.Volume, o.Size, o.Owner = h.store, "v", big, "us"
	o.Now, o.FirstPause, o.Grace = func() time.Time { return h.clock }, time.Millisecond, time.Minute
	h.opts = o
	h.open()
	return h
}

// open starts a session that takes over from the one before.
func (h *history) open() {
	h.t.Helper()
	h.must(h.tryOpen())
}

func (h *history) tryOpen() error {
	local := Local{}
	if h.r != nil {
		local = Local{Attached: true, Epoch: h.r.Head().Epoch, Confirmed: h.r.Head().Seq, Durable: h.seq}
	}
	h.r = New(h.opts)
	_, err := h.r.Takeover(h.t.Context(), local)
	for range 20 { // it tries once; callers repeat
		if !errors.Is(err, objstore.ErrUnavailable) {
			break
		}
		_, err = h.r.Takeover(h.t.Context(), local)
	}
	if err != nil {
		return err
	}
	if err := h.r.Load(h.t.Context()); err != nil {
		return err
	}
	if h.r.Head().Seq != h.seq {
		return fmt.Errorf("the store is at %d, want %d", h.r.Head().Seq, h.seq)
	}
	return nil
}

// commit publishes a random batch, which mostly hits a few cells. It returns what Commit says and enters
// the batch into the model if it counts.
func (h *history) commit(ctx context.Context, n int) error {
	b := &Batch{Seq: h.seq + 1, Object: h.r.NewObject()}
	change := map[uint64]byte{}
	if h.rng.IntN(8) == 0 {
		z := manifest.Range{First: h.rng.Uint64N(big / manifest.BlockSize)}
		z.Count = h.rng.Uint64N(min(big/manifest.BlockSize-z.First, 1<<h.rng.Uint64N(14))) + 1
		b.Zeros = append(b.Zeros, z)
		for i := range z.Count {
			change[z.First+i] = 0
		}
	}
	for range n {
		cell := h.rng.Uint64N(6) * 481 // in all three leaves
		mask := uint16(1) << h.rng.IntN(16)
		if h.rng.IntN(4) == 0 {
			mask = uint16(h.rng.Uint32()) | 1
		}
		fill := byte(1 + h.rng.IntN(255))
		f, err := b.Object.Add(cell, mask, bytes.Repeat([]byte{fill}, manifest.BlockSize*bits.OnesCount16(mask)))
		if err != nil {
			h.t.Fatal(err)
		}
		b.Frames = append(b.Frames, f)
		h.cells[cell] = true
		for i := range uint64(manifest.BlocksPerCell) {
			if mask&(1<<i) != 0 {
				change[cell*manifest.BlocksPerCell+i] = fill
			}
		}
	}
	err := h.r.Commit(ctx, b)
	if err == nil {
		h.seq = b.Seq
		for block, fill := range change {
			h.model[block] = fill
		}
	}
	return err
}

// check reads every cell and returns the first difference.
func (h *history) check() error {
	for cell := range h.cells {
		data, mask, _, err := h.r.Cell(h.t.Context(), cell)
		if err != nil {
			return err
		}
		if err := h.compare(cell, data, mask); err != nil {
			return err
		}
	}
	return nil
}

func (h *history) compare(cell uint64, data []byte, mask uint16) error {
	for i := range uint64(manifest.BlocksPerCell) {
		want := h.model[cell*manifest.BlocksPerCell+i]
		if got := data[i*manifest.BlockSize]; got != want || (mask&(1<<i) != 0) != (want != 0) {
			return fmt.Errorf("block %d of cell %d is %d with mask %#x, want %d", i, cell, got, mask, want)
		}
	}
	if mask != 0 && !h.r.MayHold(cell/manifest.CellsPerChunk) {
		return fmt.Errorf("cell %d is there and its chunk's bit says no", cell)
	}
	return nil
}

// must fails the test on the first error.
func (h *history) must(errs ...error) {
	h.t.Helper()
	if err := errors.Join(errs...); err != nil {
		h.t.Fatal(err)
	}
}

// tidy does all there is to do.
func (h *history) tidy(ctx context.Context) error {
	for range 1000 {
		more, err := h.r.Tidy(ctx)
		if !more || err != nil {
			return err
		}
	}
	return errors.New("there is always more to tidy up")
}

// objects counts what is in the store.
func (h *history) objects() (n int, bytes int64) {
	_ = h.store.List(h.t.Context(), "v/", "", func(i objstore.Info) error { n++; bytes += i.Size; return nil })
	return n, bytes
}

// TestCompaction runs batches, compaction, tidying and restarts in random order, plain and encrypted.
func TestCompaction(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			o := Options{LeafCache: 1} // leaves are fetched again and again
			if seed%2 == 1 {
				o.Secret = bytes.Repeat([]byte{9}, manifest.KeySize)
			}
			h := newHistory(t, seed, o)
			for range 40 {
				switch h.rng.IntN(8) {
				case 0:
					h.must(h.r.Compact(t.Context()))
				case 1:
					h.clock = h.clock.Add(2 * time.Minute)
					h.must(h.tidy(t.Context()))
				case 2:
					h.open()
				case 3:
					h.must(h.r.compact(t.Context(), job{leaves: h.r.blocks.Busiest(1)}))
				default:
					h.must(h.commit(t.Context(), 1+h.rng.IntN(6)))
				}
				h.must(h.check())
			}
		})
	}
}

// TestMissCostsFourGets counts the gets of every cell after compaction, with no leaf in memory.
func TestMissCostsFourGets(t *testing.T) {
	h := newHistory(t, 3, Options{LeafCache: 1})
	for range 50 {
		h.must(h.commit(t.Context(), 4))
	}
	h.must(h.r.Compact(t.Context()))
	h.open()
	for cell := range h.cells {
		before := h.store.Calls(faults.Get)
		if _, _, _, err := h.r.Cell(t.Context(), cell); err != nil {
			t.Fatal(err)
		}
		if n := h.store.Calls(faults.Get) - before; n > 4 {
			t.Errorf("cell %d took %d gets", cell, n)
		}
	}
	before := h.store.Calls(faults.Get)
	if mask, err := h.r.Mask(t.Context(), 200); mask != 0 || err != nil {
		t.Errorf("mask of a cell that was never written: %#x, %v", mask, err)
	}
	if h.r.MayHold(200/manifest.CellsPerChunk) || h.store.Calls(faults.Get) != before {
		t.Error("zeroes needed a fetch")
	}
}

// TestGarbage overwrites a volume many times over: what is stored stays within a small multiple of what lives, and
// what earlier sessions left behind goes too.
func TestGarbage(t *testing.T) {
	h := newHistory(t, 5, Options{})
	// An earlier session's batch whose head was never moved.
	h.store.Inject(faults.PutIfMatch, "v/head", 1, faults.Fault{Err: errors.New("crash")})
	if h.commit(t.Context(), 5) == nil {
		t.Fatal("commit survived the crash")
	}
	orphans, _ := h.objects()
	if orphans != 3 { // head, data, delta
		t.Fatalf("%d objects", orphans)
	}
	h.open()
	for i := range 300 {
		h.must(h.commit(t.Context(), 8))
		if i%50 == 49 {
			h.must(h.r.Compact(t.Context()))
		}
		h.clock = h.clock.Add(time.Second)
		h.must(h.tidy(t.Context()))
	}
	for range 3 { // each step makes a little garbage itself
		h.must(h.r.Compact(t.Context()), h.commit(t.Context(), 1))
		h.clock = h.clock.Add(2 * time.Minute)
		h.must(h.tidy(t.Context()))
	}
	h.must(h.check())
	st := h.r.Stats()
	n, size := h.objects()
	if n > st.Objects+40 || size > st.Bytes+64<<10 {
		t.Errorf("%d objects with %d bytes in the store; the manifest knows of %v", n, size, st)
	}
	_ = h.store.List(t.Context(), "v/", "", func(i objstore.Info) error {
		if id, err := manifest.ParseID(i.Key[2:]); err == nil && id.Epoch == 1 {
			t.Errorf("orphan %s is still there", i.Key)
		}
		return nil
	})
}

// TestFullLeaf gathers a leaf full of random data in small frames, which is more than an object can hold. Each step
// is bounded, a crash in the middle loses nothing, and no garbage stays.
func TestFullLeaf(t *testing.T) {
	h := newHistory(t, 9, Options{})
	noise := make([]byte, manifest.LeafSize)
	_, _ = rand.NewChaCha8([32]byte{9}).Read(noise) // never fails
	for _, mask := range []uint16{0x000f, 0x00f0, 0x0f00, 0x7000, 0x8000} {
		b := &Batch{Seq: h.seq + 1, Object: h.r.NewObject()}
		for _, cell := range h.rng.Perm(manifest.CellsPerLeaf) {
			first, n := bits.TrailingZeros16(mask), bits.OnesCount16(mask)
			at := cell*manifest.CellSize + first*manifest.BlockSize
			f, err := b.Object.Add(uint64(cell), mask, noise[at:at+n*manifest.BlockSize])
			h.must(err)
			b.Frames = append(b.Frames, f)
		}
		h.must(h.r.Commit(t.Context(), b))
		h.seq++
	}
	check := func(every int) {
		for cell := 0; cell < manifest.CellsPerLeaf; cell += every {
			data, mask, _, err := h.r.Cell(t.Context(), uint64(cell))
			if err != nil || mask != 0xffff || !bytes.Equal(data, noise[cell*manifest.CellSize:(cell+1)*manifest.CellSize]) {
				t.Fatalf("cell %d: mask %#x, %v", cell, mask, err)
			}
		}
	}
	step := func() error { // of Tidy and Compact
		leaves := h.r.blocks.Busiest(maxLeaves)
		if len(leaves) == 0 {
			leaves = h.r.blocks.Untidy(maxLeaves, true)
		}
		_, before := h.objects()
		err := h.r.compact(t.Context(), job{leaves: leaves, gather: true})
		if _, after := h.objects(); after-before > 3*maxStep {
			t.Fatalf("a step wrote %d bytes", after-before)
		}
		return err
	}
	h.must(step(), step())
	h.store.Inject(faults.PutIfMatch, "v/head", 1, faults.Fault{Err: errors.New("crash")})
	if step() == nil {
		t.Fatal("a step survived the crash")
	}
	h.open()
	check(7)
	h.must(h.r.Compact(t.Context()))
	check(1)
	if leaves := h.r.blocks.Untidy(maxLeaves, true); len(leaves) != 0 {
		t.Errorf("leaves %v are still untidy", leaves)
	}
	for range 3 {
		h.clock = h.clock.Add(2 * time.Minute)
		h.must(h.tidy(t.Context()), h.r.Compact(t.Context()))
	}
	if _, size := h.objects(); size > manifest.LeafSize+manifest.LeafSize/32 {
		t.Errorf("%d bytes in the store", size)
	}
	check(5)
}

// TestGarbageUnderLoad overwrites the same cells all the time, with nobody who tidies up.
func TestGarbageUnderLoad(t *testing.T) {
	h := newHistory(t, 7, Options{})
	noise := make([]byte, manifest.CellSize)
	for i := range 60 {
		b := &Batch{Seq: h.seq + 1, Object: h.r.NewObject()}
		for k := range 16 {
			_, _ = rand.NewChaCha8([32]byte{byte(i), byte(k)}).Read(noise) // never fails
			cell := h.rng.Uint64N(64)
			if k == 0 {
				cell = 1000 + uint64(i) // one in each object stays
			}
			f, err := b.Object.Add(cell, 0xffff, noise)
			h.must(err)
			b.Frames = append(b.Frames, f)
		}
		h.must(h.r.Commit(t.Context(), b))
		h.seq++
		if s := h.r.Stats(); s.Bytes > (busyGarbage+2)*s.Live+2*minGarbage {
			t.Fatalf("after %d batches: %v", i+1, s)
		}
	}
}

func TestResize(t *testing.T) {
	h := newHistory(t, 8, Options{})
	for range 20 {
		h.must(h.commit(t.Context(), 8))
	}
	h.must(h.r.Compact(t.Context()), h.commit(t.Context(), 8))
	const small = 481*manifest.CellSize + 3*manifest.BlockSize
	h.must(h.r.Resize(t.Context(), small), h.r.Resize(t.Context(), small))
	h.opts.Size = small
	h.open()
	h.must(h.r.Resize(t.Context(), 2*big))
	h.opts.Size = 2 * big
	h.open()
	for block := range h.model {
		if block >= small/manifest.BlockSize {
			delete(h.model, block)
		}
	}
	h.must(h.check())
	for _, size := range []int64{0, -1, 1, manifest.MaxSize + manifest.BlockSize} {
		if err := h.r.Resize(t.Context(), size); err == nil {
			t.Errorf("resize to %d succeeded", size)
		}
	}
}

func TestWrongKey(t *testing.T) {
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, manifest.KeySize) }
	for _, tc := range []struct {
		name          string
		first, second []byte
	}{
		{"other key", key(1), key(2)},
		{"no key", key(1), nil},
		{"key for a plain volume", nil, key(1)},
		{"short key", key(1), key(1)[1:]},
	} {
		h := newHistory(t, 1, Options{Secret: tc.first})
		h.must(h.commit(t.Context(), 1))
		h.opts.Secret = tc.second
		if _, err := New(h.opts).Takeover(t.Context(), Local{}); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if h.r.Head().Epoch != 1 {
			t.Errorf("%s: the volume was taken over", tc.name)
		}
		h.must(h.check())
	}
}
