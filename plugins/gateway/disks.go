package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/hw/disk"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/filedisk"
	"github.com/ratchetos/ratchet/plugins/internal/log/slice"
)

// localDisk is one disk and the parts of it that volumes have.
type localDisk struct {
	at             int // the volume that names it first
	handle, cached plugin.Handle
	tenants        []VolumeConfig // volumes that are configured to be here, in the order of the configuration
	scrubbing      sync.Mutex     // one volume at a time

	mu   sync.Mutex
	file *filedisk.Disk
	set  *slice.Set // nil until the disk has been opened
}

// errForeign is a disk with content that is not ours.
type errForeign struct{ kind, id string }

func (e *errForeign) Error() string {
	return fmt.Sprintf("disk holds %s and is left alone: to erase it run  ratchetctl hw claim %s --erase", e.kind, e.id)
}

// errAbsent is a disk that core could not open.
var errAbsent = errors.New("the disk is not there")

// have claims the disk if core could not open it at the start.
func (d *localDisk) have(ctx context.Context, c *claims) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.handle.File != nil {
		return nil
	}
	h, err := c.get(ctx, wantDisk(d.at))
	if err != nil {
		return fmt.Errorf("%w: %w", errAbsent, err)
	}
	if d.cached, err = c.get(ctx, wantCached(d.at)); err != nil {
		return fmt.Errorf("%w: %w", errAbsent, err)
	}
	d.handle = h
	return nil
}

// slice returns a volume's part of the disk. A blank disk is divided among its tenants.
func (d *localDisk) slice(volume string) (*slice.Disk, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.open(true); err != nil {
		return nil, err
	}
	// What one tenant cannot have is not another's concern.
	if err := d.settle()[volume]; err != nil {
		return nil, err
	}
	return d.set.Disk(volume)
}

// holds reports whether the volume has been on this disk before, so that opening it needs no store. It writes nothing.
func (d *localDisk) holds(volume string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open(false) != nil {
		return false
	}
	part, err := d.set.Disk(volume)
	if err != nil {
		return false
	}
	_, err = log.Probe(part)
	return err == nil
}

// open reads the disk's table and, if asked to, makes an empty one on a disk that nobody uses.
func (d *localDisk) open(format bool) (err error) {
	if d.set != nil {
		return nil
	}
	if d.handle.File == nil {
		return errAbsent
	}
	if d.file == nil {
		if d.file, err = filedisk.New(d.handle.File, filedisk.Options{Cached: d.cached.File}); err != nil {
			return err
		}
	}
	set, err := slice.Open(d.file)
	if errors.Is(err, slice.ErrNotFormatted) && format {
		if err := blank(d.file, d.handle.ID); err != nil {
			return err
		}
		var uuid [16]byte
		_, _ = rand.Read(uuid[:]) // never fails
		if err := slice.Format(d.file, uuid); err != nil {
			return err
		}
		set, err = slice.Open(d.file)
	}
	if err != nil {
		return err
	}
	d.set = set
	return nil
}

// settle gives every tenant its part and its weight, and says who could not have it.
func (d *localDisk) settle() map[string]error {
	have := map[string]slice.Info{}
	for _, s := range d.set.Slices() {
		have[s.Name] = s
	}
	failed := map[string]error{}
	var missing []VolumeConfig
	for _, t := range d.tenants {
		s, ok := have[t.Name]
		switch {
		case !ok:
			missing = append(missing, t)
		case s.Share != int64(t.Share):
			failed[t.Name] = d.set.SetShare(t.Name, int64(t.Share))
		}
	}
	for _, p := range divide(d.set.Free(), missing) {
		var id [16]byte
		_, _ = rand.Read(id[:])
		_, err := d.set.Create(slice.Info{Name: p.volume, ID: id, Size: p.size, Share: int64(p.share)})
		if errors.Is(err, slice.ErrNoRoom) {
			err = fmt.Errorf("%s: %w for volume %s, which takes %s: %s are free; give it a smaller cache_size or another disk, or take a volume off and create it again with a cache_size: its data is in the store",
				d.handle.ID, slice.ErrNoRoom, p.volume, strict.Size(p.size), strict.Size(d.set.Free()))
		}
		failed[p.volume] = err
	}
	return failed
}

// part is what a new tenant gets.
type part struct {
	volume string
	share  int
	size   int64
}

// leastPart is of no use to anybody, but a small disk is what it is.
const leastPart = 8 << 20

// divide gives each of the volumes its cache_size, or its share of what the others leave. One whose cache_size does not fit is
// refused by the disk, and takes nothing from its neighbours: what they get is for good.
func divide(free int64, volumes []VolumeConfig) []part {
	weights := int64(0)
	for _, v := range volumes {
		switch size := int64(v.CacheSize); {
		case size == 0:
			weights += int64(v.Share)
		case size <= free:
			free -= size
		}
	}
	var parts []part
	for _, v := range volumes {
		size := int64(v.CacheSize)
		if size == 0 {
			// The least is asked for even if it is not there, so that the error names the volume.
			size = max(free*int64(v.Share)/weights, leastPart)
		}
		parts = append(parts, part{v.Name, v.Share, size})
	}
	return parts
}

// release gives back the part of a volume. Nobody may use it any more.
func (d *localDisk) release(volume string) (bytes int64, found bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open(false) != nil {
		return 0, false, nil // nothing of ours is there
	}
	d.tenants = slices.DeleteFunc(d.tenants, func(t VolumeConfig) bool { return t.Name == volume })
	for _, s := range d.set.Slices() {
		if s.Name == volume {
			return s.Size, true, d.set.Remove(volume)
		}
	}
	return 0, false, nil
}

// orphans are the parts of volumes that are not configured to be here.
func (d *localDisk) orphans() (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.set == nil {
		return nil
	}
	known := map[string]bool{}
	for _, t := range d.tenants {
		known[t.Name] = true
	}
	for _, s := range d.set.Slices() {
		if !known[s.Name] {
			names = append(names, s.Name)
		}
	}
	return names
}

func (d *localDisk) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil {
		return nil
	}
	return d.file.Close()
}

// blankProbe is what must be zero at both ends of a disk that nobody has a known format on.
const blankProbe = 1 << 20

// blank returns nil for a disk that nobody uses.
func blank(d *filedisk.Disk, id string) error {
	if ours, err := slice.Unfinished(d); ours || err != nil {
		return err
	}
	kind, err := disk.Signature(d, d.Size())
	if err != nil {
		return err
	}
	if kind != "" {
		return &errForeign{kind, id}
	}
	n := min(blankProbe, d.Size()) &^ (log.BlockSize - 1)
	p := log.AlignedBuffer(int(n))
	for _, off := range []int64{0, (d.Size() - n) &^ (log.BlockSize - 1)} {
		if _, err := d.ReadAt(p, off); err != nil {
			return fmt.Errorf("read disk: %w", err)
		}
		for _, b := range p {
			if b != 0 {
				return &errForeign{"unknown data", id}
			}
		}
	}
	return nil
}
