package powercut

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
)

const (
	sectorSize = 512
	// cacheLimit bounds the cache, in sectors; 64 MiB is that of a common hard disk.
	cacheLimit = 64 << 20 / sectorSize
)

var errAlign = errors.New("not a multiple of the sector size")

// Disk is an image file behind a volatile write cache. Safe for concurrent use.
type Disk struct {
	// Before, when set before Serve, is called ahead of each write and flush of the machine. While it does not return
	// the drive hangs: the moment before a request, held until the machine is killed.
	Before func(flush bool)

	mu   sync.Mutex
	file *os.File
	size uint64
	// versions of each sector since the last flush, oldest first.
	versions map[uint64][][]byte
	cached   int // sectors in versions
	off      bool
}

// Open takes over a disk image. Its size must be a multiple of the sector's.
func Open(path string) (*Disk, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Size()%sectorSize != 0 {
		err = fmt.Errorf("%s: %d bytes: %w", path, st.Size(), errAlign)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Disk{file: f, size: uint64(st.Size()), versions: map[uint64][][]byte{}}, nil
}

// readAt fills p, whole sectors, with what the machine wrote last.
func (d *Disk) readAt(p []byte, at uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return os.ErrClosed
	}
	if _, err := d.file.ReadAt(p, int64(at)); err != nil {
		return err
	}
	for i := 0; i < len(p); i += sectorSize {
		if v := d.versions[(at+uint64(i))/sectorSize]; len(v) != 0 {
			copy(p[i:], v[len(v)-1])
		}
	}
	return nil
}

// writeAt puts whole sectors into the cache.
func (d *Disk) writeAt(p []byte, at uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return os.ErrClosed
	}
	p = slices.Clone(p)
	for i := 0; i < len(p); i += sectorSize {
		n := (at + uint64(i)) / sectorSize
		d.versions[n] = append(d.versions[n], p[i:i+sectorSize:i+sectorSize])
		d.cached++
	}
	if d.cached > cacheLimit {
		return d.destage()
	}
	return nil
}

// flush makes everything written so far durable.
func (d *Disk) flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return os.ErrClosed
	}
	return d.destage()
}

// destage writes the newest versions in runs of neighbours: guests write mostly in sequence.
func (d *Disk) destage() error {
	sectors := d.sorted()
	for len(sectors) > 0 {
		run := 1
		for run < len(sectors) && sectors[run] == sectors[0]+uint64(run) {
			run++
		}
		b := make([]byte, 0, run*sectorSize)
		for _, n := range sectors[:run] {
			v := d.versions[n]
			b = append(b, v[len(v)-1]...)
		}
		if _, err := d.file.WriteAt(b, int64(sectors[0]*sectorSize)); err != nil {
			return fmt.Errorf("destage: %w", err)
		}
		sectors = sectors[run:]
	}
	clear(d.versions)
	d.cached = 0
	return nil
}

func (d *Disk) sorted() []uint64 {
	sectors := make([]uint64, 0, len(d.versions))
	for n := range d.versions {
		sectors = append(sectors, n)
	}
	slices.Sort(sectors)
	return sectors
}

// Loss is what a cut did to the sectors that were not flushed.
type Loss struct {
	Unflushed int // sectors
	Dropped   int // of them, those that read as before the first unflushed write
	Reordered int // those that read as a version which was overwritten later
}

// Cut cuts the power: the file gets what survives, requests fail from now on. Kill the machine first.
func (d *Disk) Cut(seed uint64) (Loss, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return Loss{}, os.ErrClosed
	}
	d.off = true
	r := rand.New(rand.NewPCG(seed, 0x7261746368657400))
	loss := Loss{Unflushed: len(d.versions)}
	for _, n := range d.sorted() { // in order, so that the seed alone decides
		v := d.versions[n]
		switch k := r.IntN(len(v) + 1); {
		case k == 0:
			loss.Dropped++
			v[len(v)-1] = nil
		case k < len(v):
			loss.Reordered++
			v[len(v)-1] = v[k-1]
		}
		if v[len(v)-1] == nil {
			delete(d.versions, n)
		}
	}
	return loss, errors.Join(d.destage(), d.file.Close())
}

// Close ends in order: everything is written first. After Cut it does nothing.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return nil
	}
	d.off = true
	return errors.Join(d.destage(), d.file.Close())
}
