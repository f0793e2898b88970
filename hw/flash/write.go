package flash

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/hw/disk"
)

// Options of Write.
type Options struct {
	// Force opens a disk that something on this machine uses.
	Force bool
	// Progress is told how far a step is, in bytes; nil is fine.
	Progress func(step string, done, total int64)
	// Random is where GUIDs come from, crypto/rand if nil.
	Random io.Reader
}

// Steps that Progress names.
const (
	StepWrite  = "write"
	StepVerify = "verify"
)

// page is what O_DIRECT wants offsets and lengths to be multiples of, on every disk.
const page = 4096

// keepHole is how much of DATA is zeroed. It has no content yet; what would give an old one away lies at its start.
const keepHole = 32 << 20

// Write puts the image on the disk and reads it back. On an error the disk holds nothing that boots.
func Write(ctx context.Context, s *Source, d Disk, o Options) (err error) {
	if d.Size/sector*sector < s.Size {
		return fmt.Errorf("flash %s: the image is of a disk of %d MiB, this one has %d MiB", d.Path, s.Size>>20, d.Size>>20)
	}
	if len(d.InUse) > 0 && !o.Force {
		return fmt.Errorf("flash %s: %s", d.Path, d.InUse[0])
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("flash %s: nothing was written: %w", d.Path, err)
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	head, tail, err := s.table.fit(d.Size/sector*sector, o.Random)
	if err != nil {
		return fmt.Errorf("flash %s: %w", d.Path, err)
	}
	f, err := open(d, o.Force)
	if err != nil {
		return fmt.Errorf("flash %s: %w", d.Path, err)
	}
	w := &writer{file: f, source: s, size: d.Size / sector * sector, options: o, head: head, tail: tail}
	if err := errors.Join(w.run(ctx), f.Close()); err != nil {
		return fmt.Errorf("flash %s: %w", d.Path, err)
	}
	return nil
}

// open takes the disk for us alone: O_EXCL on a block device fails while anything else has it.
func open(d Disk, force bool) (*os.File, error) {
	flags := unix.O_RDWR | unix.O_CLOEXEC
	if !d.File && !force {
		flags |= unix.O_EXCL
	}
	fd, err := unix.Open(d.Path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, errors.New("something on this machine uses it (mounted, swap, RAID or another program)")
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), d.Path), nil
}

type writer struct {
	file    *os.File
	source  *Source
	size    int64
	options Options
	head    []byte
	tail    []byte
}

func (w *writer) run(ctx context.Context) error {
	// From here to the end the disk has no table at all.
	for _, at := range []int64{0, w.size - tailSize} {
		if err := w.zero(at, at+tailSize+sector); err != nil {
			return err
		}
	}
	if err := w.file.Sync(); err != nil { // or a cache may write what follows first
		return fmt.Errorf("sync: %w", err)
	}
	if err := w.data(ctx); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := w.verify(ctx); err != nil {
		return err
	}
	for _, p := range []struct {
		b  []byte
		at int64
	}{{w.tail, w.size - tailSize}, {w.head, 0}} {
		if _, err := w.file.WriteAt(p.b, p.at); err != nil {
			return fmt.Errorf("write partition table: %w", err)
		}
	}
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("sync partition table: %w", err)
	}
	return w.verifyTable()
}

// data writes the image's data, and zeros where it has holes that must not show what was there before.
func (w *writer) data(ctx context.Context) error {
	done := int64(tableEnd)
	err := w.source.Each(ctx, func(at int64, b []byte) error {
		b, at, ok := w.part(b, at)
		if !ok {
			return nil
		}
		if err := w.fill(done, at); err != nil {
			return err
		}
		if _, err := w.file.WriteAt(b, at); err != nil {
			return fmt.Errorf("write at %d: %w", at, err)
		}
		done = at + int64(len(b))
		w.options.Progress(StepWrite, done, w.source.Size)
		return nil
	})
	if err != nil {
		return err
	}
	if err := w.fill(done, w.size); err != nil {
		return err
	}
	w.options.Progress(StepWrite, w.source.Size, w.source.Size)
	return nil
}

// part is the piece of the image that is not a partition table.
func (w *writer) part(b []byte, at int64) ([]byte, int64, bool) {
	if skip := tableEnd - at; skip > 0 {
		if skip >= int64(len(b)) {
			return nil, 0, false
		}
		b, at = b[skip:], tableEnd
	}
	if over := at + int64(len(b)) - (w.source.Size - tailSize); over > 0 {
		if over >= int64(len(b)) {
			return nil, 0, false
		}
		b = b[:int64(len(b))-over]
	}
	return b, at, true
}

// fill zeroes a hole of the image.
func (w *writer) fill(from, to int64) error { return w.zero(from, w.hole(to)) }

// hole is the end of what is zeroed of a hole. The bulk of DATA, which comes last, is left as it is: that could be terabytes.
func (w *writer) hole(to int64) int64 {
	end := w.source.Size
	if e := w.source.table.partition(dataName); e != nil {
		start, _ := span(e)
		end = start + keepHole
	}
	return min(to, end, w.size)
}

// zero makes a range read as zeros. Disks that can do it by themselves are asked to.
func (w *writer) zero(from, to int64) error {
	if to = min(to, w.size); from >= to {
		return nil
	}
	if err := zeroRange(w.file, from, to-from); err == nil {
		return nil
	}
	for from < to {
		n := min(int64(len(zeros)), to-from)
		if _, err := w.file.WriteAt(zeros[:n], from); err != nil {
			return fmt.Errorf("zero at %d: %w", from, err)
		}
		from += n
	}
	return nil
}

func zeroRange(f *os.File, at, n int64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Mode().IsRegular() {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n)
	}
	span := [2]uint64{uint64(at), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&span)))
	if errno != 0 {
		return errno
	}
	return nil
}

// verify compares the disk with the image, holes included where they were zeroed.
func (w *writer) verify(ctx context.Context) error {
	m, err := w.medium()
	if err != nil {
		return err
	}
	defer m.Close()
	done := int64(tableEnd)
	hole := func(to int64) error {
		for to = w.hole(to); done < to; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(int64(len(zeros)), to-done)
			if err := m.holds(done, zeros[:n]); err != nil {
				return err
			}
			done += n
		}
		return nil
	}
	err = w.source.Each(ctx, func(at int64, b []byte) error {
		b, at, ok := w.part(b, at)
		if !ok {
			return nil
		}
		if err := hole(at); err != nil {
			return err
		}
		if err := m.holds(at, b); err != nil {
			return err
		}
		done = at + int64(len(b))
		w.options.Progress(StepVerify, done, w.source.Size)
		return nil
	})
	if err == nil {
		err = hole(w.size)
	}
	if err != nil {
		return err
	}
	w.options.Progress(StepVerify, w.source.Size, w.source.Size)
	return nil
}

func (w *writer) verifyTable() error {
	m, err := w.medium()
	if err != nil {
		return err
	}
	defer m.Close()
	if err := errors.Join(m.holds(0, w.head), m.holds(w.size-tailSize, w.tail)); err != nil {
		return fmt.Errorf("partition table: %w", err)
	}
	return nil
}

// medium is the disk itself, past the cache.
type medium struct {
	*os.File
	got []byte
}

func (w *writer) medium() (*medium, error) {
	f, err := uncached(w.file)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	return &medium{f, disk.Aligned(chunk + 2*page)}, nil
}

// holds compares at most a chunk.
func (m *medium) holds(at int64, want []byte) error {
	base := at &^ (page - 1) // O_DIRECT reads whole pages
	need := int(at-base) + len(want)
	if err := readFull(m, m.got[:(need+page-1)&^(page-1)], base, need); err != nil {
		return fmt.Errorf("read back at %d: %w", at, err)
	}
	if !bytes.Equal(m.got[at-base:need], want) {
		return fmt.Errorf("read back at %d: the disk does not hold what was written", at)
	}
	return nil
}

// uncached opens the disk a second time so that reads come from the medium.
func uncached(f *os.File) (*os.File, error) {
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return nil, err
	}
	fd, err := unix.Open(f.Name(), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EINVAL) { // a file on a filesystem without O_DIRECT
		fd, err = unix.Open(f.Name(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// readFull reads at least need bytes into p; the end of the disk may come before that of p.
func readFull(r io.ReaderAt, p []byte, at int64, need int) error {
	n, err := r.ReadAt(p, at)
	if n >= need {
		return nil
	}
	return err
}
