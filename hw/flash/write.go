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

// fill zeroes a hole of the image. The bulk of DATA, which comes last, is left as it is: that could be terabytes.
func (w *writer) fill(from, to int64) error {
	end := w.source.Size
	if e := w.source.table.partition(dataName); e != nil {
		start, _ := span(e)
		end = start + keepHole
	}
	return w.zero(from, min(to, end))
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
	r, err := uncached(w.file)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	defer r.Close()
	got := disk.Aligned(chunk + 2*page)
	err = w.source.Each(ctx, func(at int64, b []byte) error {
		// O_DIRECT reads whole pages. The table's place is compared on its own.
		base := at &^ (page - 1)
		need := int(at-base) + len(b)
		if err := readFull(r, got[:(need+page-1)&^(page-1)], base, need); err != nil {
			return fmt.Errorf("read back at %d: %w", at, err)
		}
		want, start, ok := w.part(b, at)
		if ok && !bytes.Equal(got[start-base:][:len(want)], want) {
			return fmt.Errorf("read back at %d: the disk does not hold what was written", at)
		}
		w.options.Progress(StepVerify, at+int64(len(b)), w.source.Size)
		return nil
	})
	if err != nil {
		return err
	}
	w.options.Progress(StepVerify, w.source.Size, w.source.Size)
	return nil
}

func (w *writer) verifyTable() error {
	r, err := uncached(w.file)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	defer r.Close()
	b := disk.Aligned((tableEnd + page - 1) &^ (page - 1))
	if err := readFull(r, b, 0, tableEnd); err != nil {
		return fmt.Errorf("read partition table back: %w", err)
	}
	if !bytes.Equal(b[:tableEnd], w.head) {
		return errors.New("read partition table back: the disk does not hold what was written")
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
