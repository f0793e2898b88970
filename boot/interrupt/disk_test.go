package interrupt

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

const sector = 512

// disk keeps what was written since the last flush apart, sector by sector.
type disk struct {
	p       *power
	mu      sync.Mutex
	durable []byte
	cache   map[int64][]version
	writes  int64 // sectors written so far
}

// version is what a sector held for a while.
type version struct {
	seq  int64
	data []byte
}

func newDisk(p *power, size int64) *disk {
	return &disk{p: p, durable: make([]byte, size), cache: map[int64][]version{}}
}

func (d *disk) readAt(b []byte, at int64) {
	copy(b, d.durable[at:])
	if len(d.cache) == 0 {
		return
	}
	for n := at / sector; n*sector < at+int64(len(b)); n++ {
		v := d.cache[n]
		if len(v) == 0 {
			continue
		}
		data, to := v[len(v)-1].data, n*sector-at
		if to < 0 {
			data, to = data[-to:], 0
		}
		copy(b[to:], data)
	}
}

func (d *disk) writeAt(b []byte, at int64) {
	first := at / sector
	end := (at + int64(len(b)) + sector - 1) / sector
	whole := make([]byte, (end-first)*sector)
	d.readAt(whole, first*sector)
	copy(whole[at-first*sector:], b)
	for n := first; n < end; n++ {
		d.writes++
		data := whole[(n-first)*sector:][:sector:sector]
		d.cache[n] = append(d.cache[n], version{d.writes, data})
	}
}

func (d *disk) flush() {
	for n, v := range d.cache {
		copy(d.durable[n*sector:], v[len(v)-1].data)
	}
	clear(d.cache)
}

// How a cache fares when the power fails.
const (
	losesAll = iota
	keepsAll
	losesAny     // each sector has any of its versions, or none of them
	losesNewest  // what was written up to some moment is there, the rest is not
	losesOneOnly // all but one sector are there
	fates
)

// fail ends the disk's power: the durable bytes are what the next boot finds.
func (d *disk) fail(r *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sectors := make([]int64, 0, len(d.cache))
	oldest := d.writes
	for n, v := range d.cache {
		sectors = append(sectors, n)
		oldest = min(oldest, v[0].seq)
	}
	slices.Sort(sectors) // so that the seed alone decides
	fate := r.IntN(fates)
	until := oldest + r.Int64N(d.writes-oldest+1)
	victim := 0
	if len(sectors) > 0 {
		victim = r.IntN(len(sectors))
	}
	for i, n := range sectors {
		v := d.cache[n]
		keep := len(v)
		switch fate {
		case losesAll:
			keep = 0
		case losesAny:
			keep = r.IntN(len(v) + 1)
		case losesNewest:
			keep, _ = slices.BinarySearchFunc(v, until, func(v version, until int64) int { return int(v.seq - until) })
		case losesOneOnly:
			if i == victim {
				keep = 0
			}
		}
		if keep > 0 {
			copy(d.durable[n*sector:], v[keep-1].data)
		}
	}
	clear(d.cache)
}

// part is a partition of the disk.
type part struct {
	d        *disk
	name     string
	at, size int64
	// lazy is a mutant's: its Sync does nothing.
	lazy bool
}

func (p part) ReadAt(b []byte, at int64) (int, error) {
	if err := p.d.p.read(); err != nil {
		return 0, err
	}
	if at < 0 || at >= p.size {
		return 0, io.EOF
	}
	n := min(int64(len(b)), p.size-at)
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.d.readAt(b[:n], p.at+at)
	if n < int64(len(b)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func (p part) WriteAt(b []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(b)) > p.size {
		return 0, io.ErrShortWrite
	}
	if err := p.d.p.effect("write " + p.name); err != nil {
		return 0, err
	}
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.d.writeAt(b, p.at+at)
	return len(b), nil
}

func (p part) Sync() error {
	if err := p.d.p.effect("flush " + p.name); err != nil || p.lazy {
		return err
	}
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.d.flush()
	return nil
}

func (p part) Size() int64  { return p.size }
func (p part) Close() error { return nil }

// TestDisk: what a flush covered survives, the rest may be anything it was since.
func TestDisk(t *testing.T) {
	lost, kept, torn := 0, 0, 0
	for seed := range uint64(100) {
		w := &power{left: -1}
		p := part{d: newDisk(w, 16*sector), name: "disk", size: 16 * sector}
		put := func(b byte, at, n int64) {
			if _, err := p.WriteAt(bytes.Repeat([]byte{b}, int(n)), at); err != nil {
				t.Fatal(err)
			}
		}
		put(1, 0, 16*sector)
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
		put(2, 100, 4*sector) // unaligned: the rest of its sectors stays
		put(3, 2*sector, sector)
		got := make([]byte, 5*sector)
		if _, err := p.ReadAt(got, 50); err != nil || got[0] != 1 || got[50] != 2 || got[2*sector] != 3 {
			t.Fatalf("seed %d reads %v %v", seed, got[:60], err)
		}
		w.kill()
		if err := p.Sync(); err == nil {
			t.Fatal("flushed without power")
		}
		p.d.fail(rand.New(rand.NewPCG(seed, 0)))
		w.arm(-1)
		all := make([]byte, 16*sector)
		if _, err := p.ReadAt(all, 0); err != nil {
			t.Fatal(err)
		}
		if all[99] != 1 || !bytes.Equal(all[6*sector:], bytes.Repeat([]byte{1}, 10*sector)) {
			t.Fatalf("seed %d: a flushed byte is lost", seed)
		}
		switch first, third := all[200], all[2*sector]; {
		case first == 1 && third == 1:
			lost++
		case first == 2 && third == 3:
			kept++
		default:
			torn++
		}
	}
	if lost == 0 || kept == 0 || torn == 0 {
		t.Errorf("%d lost, %d kept, %d torn: a kind is missing", lost, kept, torn)
	}
}
