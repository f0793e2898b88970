package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/qemu/lab/load"
)

// memory is the load on memory. Its pages are outside of Go's heap: nothing but the load touches them.
type memory struct {
	pages      []byte
	versions   []uint64
	next       int
	written    uint64
	stop, done chan struct{}
}

func startMemory(o load.Memory) (*memory, error) {
	if o.Pages == 0 {
		return nil, nil
	}
	pages, err := unix.Mmap(-1, 0, o.Pages*load.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("get %d pages: %w", o.Pages, err)
	}
	m := &memory{pages: pages, versions: make([]uint64, o.Pages), stop: make(chan struct{}), done: make(chan struct{})}
	for i := range m.versions {
		load.Fill(m.page(i), uint64(i), 0)
	}
	go paced(float64(o.Rate)/load.PageSize, m.stop, m.done, m.write)
	return m, nil
}

func (m *memory) page(i int) []byte { return m.pages[i*load.PageSize : (i+1)*load.PageSize] }

func (m *memory) write() {
	m.versions[m.next]++
	load.Fill(m.page(m.next), uint64(m.next), m.versions[m.next])
	m.next = (m.next + 1) % len(m.versions)
	m.written++
}

func (m *memory) pause() {
	select {
	case <-m.stop:
	default:
		close(m.stop)
	}
	<-m.done
}

func (m *memory) end() {
	m.pause()
	_ = unix.Munmap(m.pages)
}

// verify ends the load but keeps its pages, so that it may be repeated.
func (m *memory) verify() load.Result {
	m.pause()
	r := load.Result{Checked: len(m.versions), Written: m.written}
	for i, v := range m.versions {
		if !load.Holds(m.page(i), uint64(i), v) {
			r.Bad++
		}
	}
	return r
}
