// Package ring maps the memory of an acknowledgement ring: a memfd that core holds for a volume and
// hands to every process that serves it. What a killed process had acknowledged is in there for the
// next one (invariant S5); log.Recover takes it out. The layout is package log's.
//
// A ring may be mapped by one process at a time; core starts the next one when it has seen the
// last one end.
package ring

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// Size is what the memfd of a ring for n bytes of data has to have.
func Size(n int64) int64 { return log.BlockSize + n }

// Create makes a new, empty ring for n bytes of data: what core does, and a process of its own
// that wants one.
func Create(name string, n int64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("create ring %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(Size(n)); err != nil {
		return nil, errors.Join(fmt.Errorf("create ring %s: %w", name, err), f.Close())
	}
	// A holder that could shrink it would turn every access of the others into a SIGBUS.
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return nil, errors.Join(fmt.Errorf("seal ring %s: %w", name, err), f.Close())
	}
	return f, nil
}

// Ring is mapped memory.
type Ring struct{ mem []byte }

// Map maps all of f, which may be closed afterwards. The memory is taken page by page as the log fills it for the first time.
func Map(f *os.File) (*Ring, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("map ring: %w", err)
	}
	n := st.Size()
	if n <= log.BlockSize || n%log.BlockSize != 0 || n != int64(int(n)) {
		return nil, fmt.Errorf("map ring %s: %d bytes are no ring", f.Name(), n)
	}
	// Not populated: a volume that nobody writes to takes none of its memory.
	mem, err := unix.Mmap(int(f.Fd()), 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map ring %s of %d bytes: %w", f.Name(), n, err)
	}
	return &Ring{mem: mem}, nil
}

// Memory is the window for log.Open. It is valid until Close.
func (r *Ring) Memory() []byte { return r.mem }

// Close unmaps the memory. Nothing may use the log on it any more.
func (r *Ring) Close() error {
	mem := r.mem
	r.mem = nil
	if mem == nil {
		return nil
	}
	if err := unix.Munmap(mem); err != nil {
		return fmt.Errorf("unmap ring: %w", err)
	}
	return nil
}
