package bpf

import (
	"fmt"
	"math/bits"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Shared is a BPF_F_MMAPABLE array as memory of this process. T is the C type of its values: same size, no
// pointers. What a program may read or write at the same time is accessed with sync/atomic.
type Shared[T any] struct {
	Elems  []T
	memory []byte
}

// Map maps m. Close it when nobody uses Elems any more.
func Map[T any](m *ebpf.Map) (*Shared[T], error) {
	size := int(unsafe.Sizeof(*new(T)))
	// The kernel rounds values of an array up to 8 bytes.
	if int(m.ValueSize()) != size || size%8 != 0 {
		return nil, fmt.Errorf("map %v: values of %d bytes cannot be shared as ones of %d", m, m.ValueSize(), size)
	}
	n := int(m.MaxEntries())
	hi, length := bits.Mul64(uint64(n), uint64(size))
	if hi != 0 || length > 1<<40 {
		return nil, fmt.Errorf("map %v: %d values of %d bytes are too many to share", m, n, size)
	}
	page := uint64(os.Getpagesize())
	memory, err := unix.Mmap(m.FD(), 0, int((length+page-1)/page*page), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap %v: %w", m, err)
	}
	return &Shared[T]{Elems: unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(memory))), n), memory: memory}, nil
}

// Close unmaps; Elems must not be used afterwards.
func (s *Shared[T]) Close() error {
	if s == nil || s.memory == nil {
		return nil
	}
	memory := s.memory
	s.memory, s.Elems = nil, nil
	return unix.Munmap(memory)
}
