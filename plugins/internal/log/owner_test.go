package log

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

const (
	testSegment = minSegment
	testBlocks  = 48
	maxRun      = 12 // blocks in one write
	testDisk    = headArea + 2*(2*BlockSize) + 12*testSegment
	testWindow  = BlockSize + 3*testSegment
)

// version is what an owner keeps of a block: the number of the write and where it lies.
type version struct {
	n   uint64
	pos int64
}

// owner is the smallest user of a log: numbered blocks of which every write has a number of its
// own, a checkpoint that lists them, and a store for what the tail passes. It has no goroutine, so
// that a seed makes a history.
type owner struct {
	r     *rand.Rand
	disk  *simdisk.Disk
	log   *Log
	index map[int64]version
	data  []byte // scratch of write
	read  []byte // scratch of check

	*past
}

// past is what outlives a crash: what the world knows about the writes, and the store.
type past struct {
	writes  []written // write i+1
	flushed uint64    // writes known durable
	remote  map[int64]uint64
	window  []byte
}

// newWindow is a ring as the next boot has it.
func (p *past) newWindow() {
	if p.window == nil {
		p.window = AlignedBuffer(testWindow)
	}
	clear(p.window)
}

type written struct {
	block int64
	sum   uint32
}

// payload is the content of a block by write n.
func payload(block int64, n uint64) []byte { return fill(make([]byte, BlockSize), block, n) }

func fill(p []byte, block int64, n uint64) []byte {
	binary.LittleEndian.PutUint64(p, n)
	binary.LittleEndian.PutUint64(p[8:], uint64(block))
	for i := 16; i < BlockSize; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], n<<32|uint64(block))
	}
	return p
}

func formatted() (*simdisk.Disk, error) {
	d := simdisk.New(testDisk)
	_, err := Format(d, FormatOptions{UUID: [16]byte{1}, CheckpointSize: 2 * BlockSize, Segment: testSegment})
	return d, err
}

// open recovers the log and checks what it finds against the past: at least the writes up to
// least, and a prefix of all of them.
func openOwner(r *rand.Rand, d *simdisk.Disk, p *past, least uint64, m mutant) (*owner, error) {
	o := &owner{r: r, disk: d, past: p, index: map[int64]version{}, data: make([]byte, maxRun*BlockSize), read: AlignedBuffer(2 * BlockSize)}
	var err error
	if o.log, err = Open(d, Options{Window: p.window, MaxAge: -1, mutant: m}); err != nil {
		return nil, err
	}
	var found, epoch uint64
	err = o.log.Recover(func(st io.Reader, _ Cursor) error {
		found, o.index = 0, map[int64]version{}
		all, err := io.ReadAll(st)
		for ; err == nil && len(all) >= 24; all = all[24:] {
			v := version{binary.LittleEndian.Uint64(all[8:]), int64(binary.LittleEndian.Uint64(all[16:]))}
			o.index[int64(binary.LittleEndian.Uint64(all))] = v
			found = max(found, v.n)
		}
		return err
	}, func(g *Group) error {
		if g.Seq > 0 { // from the disk
			epoch = g.Epoch
		}
		for _, rec := range g.Records {
			for i, sum := range rec.Sums {
				n := o.number(rec.Off/BlockSize+int64(i), sum)
				if n == 0 {
					return fmt.Errorf("block %d: checksum of no write", rec.Off/BlockSize+int64(i))
				}
				o.index[rec.Off/BlockSize+int64(i)] = version{n, rec.Pos + int64(i)*BlockSize}
				found = max(found, n)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if epoch == o.log.Epoch() {
		return nil, fmt.Errorf("epoch %d has groups from before this opening", epoch)
	}
	if found < least {
		return nil, fmt.Errorf("found writes up to %d, %d were acknowledged", found, least)
	}
	o.writes = o.writes[:found]
	o.flushed = found
	return o, o.check()
}

// number finds the write of a block by its checksum.
func (o *owner) number(block int64, sum uint32) uint64 {
	for i := len(o.writes) - 1; i >= 0; i-- {
		if o.writes[i] == (written{block, sum}) {
			return uint64(i + 1)
		}
	}
	return 0
}

// check compares every block with the last write to it.
func (o *owner) check() error {
	want := map[int64]uint64{}
	for i, w := range o.writes {
		want[w.block] = uint64(i + 1)
	}
	tail := o.log.Tail().Pos
	p := o.read[:BlockSize]
	for b, n := range want {
		v := o.index[b]
		if v.n != n {
			return fmt.Errorf("block %d is write %d, want %d of %d", b, v.n, n, len(o.writes))
		}
		if v.pos < tail {
			if o.remote[b] != n {
				return fmt.Errorf("block %d of write %d was freed, the store has %d", b, n, o.remote[b])
			}
			continue
		}
		if err := o.log.Read(p, v.pos); err != nil {
			return err
		}
		if !bytes.Equal(p, fill(o.read[BlockSize:], b, n)) {
			return fmt.Errorf("block %d at %d does not hold write %d", b, v.pos, n)
		}
		if back := o.log.Pos(uint32(v.pos % o.log.Size() / BlockSize)); back != v.pos {
			return fmt.Errorf("position %d came back as %d", v.pos, back)
		}
	}
	return nil
}

// write appends a run of blocks, each a write of its own.
func (o *owner) write(block int64, n int) error {
	for n > 0 {
		data := o.data[:n*BlockSize]
		for i := range n {
			fill(data[i*BlockSize:], block+int64(i), uint64(len(o.writes)+1+i))
		}
		pos, took, err := o.log.Append(Record{Kind: Write, Off: block * BlockSize, Len: int64(len(data)), Data: data})
		switch {
		case errors.Is(err, ErrWindowFull):
			if err := o.log.writeOut(false); err != nil {
				return err
			}
			continue
		case errors.Is(err, ErrLogFull):
			if err := o.clean(); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		o.appended(block, data[:took], pos)
		block, n = block+took/BlockSize, n-int(took/BlockSize)
	}
	return nil
}

// appended notes that the log has taken p.
func (o *owner) appended(block int64, p []byte, pos int64) {
	for i := range int64(len(p) / BlockSize) {
		o.writes = append(o.writes, written{block + i, Checksum(p[i*BlockSize:][:BlockSize])})
		o.index[block+i] = version{uint64(len(o.writes)), pos + i*BlockSize}
	}
}

// one appends a block if there is room. It does no I/O and may be called in the middle of that of others.
func (o *owner) one() error {
	b := o.r.Int64N(testBlocks)
	data := payload(b, uint64(len(o.writes)+1))
	pos, _, err := o.log.Append(Record{Kind: Write, Off: b * BlockSize, Len: BlockSize, Data: data})
	if err == nil {
		o.appended(b, data, pos)
	}
	return err
}

// brim fills the window and then has a mark to store, for which there is no room.
func (o *owner) brim() error {
	var err error
	for err == nil {
		err = o.one()
	}
	if !errors.Is(err, ErrWindowFull) && !errors.Is(err, ErrLogFull) {
		return err
	}
	if err := o.log.SetMark(o.log.Tail(), Mark{2}); err != nil {
		return err
	}
	if err = o.flush(); errors.Is(err, ErrLogFull) {
		return nil // what was appended is durable
	}
	return err
}

func (o *owner) flush() error {
	n := uint64(len(o.writes))
	if err := o.log.Flush(context.Background()); err != nil {
		return err
	}
	o.flushed = max(o.flushed, n)
	return nil
}

// checkpoint stores the index while one more write may come between.
func (o *owner) checkpoint() error {
	from := o.log.Written()
	return o.log.Checkpoint(context.Background(), from, func(w io.Writer) error {
		if o.r.IntN(2) == 0 && o.log.Free() > 2*testSegment {
			if err := o.write(o.r.Int64N(testBlocks), 1); err != nil {
				return err
			}
		}
		var p []byte
		for b, v := range o.index {
			p = binary.LittleEndian.AppendUint64(p, uint64(b))
			p = binary.LittleEndian.AppendUint64(p, v.n)
			p = binary.LittleEndian.AppendUint64(p, uint64(v.pos))
		}
		_, err := w.Write(p)
		return err
	})
}

// clean frees a part of the log: what is current there goes to the store or is written again.
func (o *owner) clean() error {
	if err := o.flush(); err != nil {
		return err
	}
	if err := o.checkpoint(); err != nil {
		return err
	}
	tail := o.log.Tail()
	stop := min(tail.Pos+o.log.Size()/4, o.log.from.Load().Pos)
	if stop == 0 {
		return nil
	}
	next, err := o.log.Scan(tail, ScanOptions{Headers: o.r.IntN(2) == 0, End: stop}, func(g *Group) error {
		for _, rec := range g.Records {
			for i := range rec.Sums {
				b, pos := rec.Off/BlockSize+int64(i), rec.Pos+int64(i)*BlockSize
				v := o.index[b]
				if v.pos != pos {
					continue
				}
				o.remote[b] = v.n
				if o.r.IntN(4) > 0 {
					continue
				}
				data := payload(b, v.n)
				if at, _, err := o.log.Append(Record{Kind: Fill, Reserve: true, Off: b * BlockSize, Len: BlockSize, Data: data, Sums: []uint32{Checksum(data)}}); err == nil {
					o.index[b] = version{v.n, at}
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := o.log.SetMark(next, Mark{1}); err != nil {
		return err
	}
	if o.r.IntN(2) == 0 {
		return nil // the next group carries it
	}
	return o.flush()
}
