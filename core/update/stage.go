package update

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/slot"
)

// peekAfter is how much of a bundle certainly holds its manifest and signature: their limits, and tar headers.
const peekAfter = 128 << 10

// maxBundle bounds what is kept of a bundle for a slot.
func maxBundle(capacity int64) int64 { return capacity + bundle.MaxSBOM + peekAfter }

// Stage adds a piece to the bundle that Apply takes and returns its size so far. Offset 0 begins a new one; any other
// must be the size so far, so that an upload that was cut off goes on where it was. A bundle that this box would not
// install is refused, and forgotten, once its manifest has arrived.
func (m *Manager) Stage(offset int64, data []byte) (size int64, err error) {
	if m.blocked != nil {
		return 0, m.blocked
	}
	if !m.staging.TryLock() {
		return 0, ErrBusy // a download may take hours
	}
	defer m.staging.Unlock()
	f, err := m.openStaged(offset == 0)
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil && !errors.Is(err, ErrOffset) {
			m.forgetStaged()
		}
	}()
	if size, err = f.Seek(0, io.SeekEnd); err != nil {
		return 0, storage(err)
	}
	if offset != size {
		return size, fmt.Errorf("%w: %d bytes are staged, this piece starts at %d", ErrOffset, size, offset)
	}
	capacity, err := m.capacity()
	if err != nil {
		return size, err
	}
	if size+int64(len(data)) > maxBundle(capacity) {
		return size, fmt.Errorf("%w: more than %d bytes, its image cannot fit a slot", bundle.ErrOther, maxBundle(capacity))
	}
	n, err := f.Write(data)
	if err != nil {
		return size, storage(err)
	}
	before := size
	size += int64(n)
	if before < peekAfter {
		return size, m.peek(f)
	}
	return size, nil
}

// ErrOffset says that a piece does not start where the one before it ended.
var ErrOffset = errors.New("the pieces of a bundle do not follow each other")

func (m *Manager) openStaged(anew bool) (*os.File, error) {
	if m.o.Dir == "" {
		return nil, fmt.Errorf("%w: the box has no STATE", ErrStorage)
	}
	if err := os.MkdirAll(m.o.Dir, 0o700); err != nil {
		return nil, storage(err)
	}
	mode := os.O_RDWR | os.O_CREATE
	if anew {
		mode |= os.O_TRUNC
		// What comes now is not what a download began with.
		if err := os.Remove(m.sourcePath()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, storage(err)
		}
	}
	f, err := os.OpenFile(m.stagedPath(), mode, 0o600)
	if err != nil {
		return nil, storage(err)
	}
	return f, nil
}

func (m *Manager) forgetStaged() {
	for _, path := range []string{m.stagedPath(), m.sourcePath()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			m.o.Log.Warn("remove staged bundle", "err", err)
		}
	}
}

// storage explains an error of STATE.
func storage(err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: it is full; nothing was changed", ErrStorage)
	}
	return fmt.Errorf("%w: %w", ErrStorage, err)
}

// capacity is how large an image the other slot takes.
func (m *Manager) capacity() (int64, error) {
	size, err := m.slotSize()
	if err != nil {
		return 0, err
	}
	return m.box(size).Slot, nil
}

// slotSize is that of the slot that an update goes to.
func (m *Manager) slotSize() (int64, error) {
	d, err := m.o.Open(m.disk(slot.Other(m.o.Report.Slot)).Node, false)
	if err != nil {
		return 0, err
	}
	return d.Size(), d.Close()
}

// peek refuses a bundle by its manifest when that is there already.
func (m *Manager) peek(f io.ReaderAt) error {
	b, err := bundle.Open(io.NewSectionReader(f, 0, peekAfter), m.keys)
	switch {
	case errors.Is(err, bundle.ErrDamaged):
		return nil // more is to come; the whole is verified before it is used
	case err != nil:
		return err
	}
	size, err := m.slotSize()
	if err != nil {
		return err
	}
	return b.Manifest.Check(m.box(size))
}
