package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/qemu/lab/load"
)

// disk is the load on a disk: blocks are written in turn, each flushed before the next. What was flushed must be there.
type disk struct {
	file       *os.File
	block      []byte // aligned, as O_DIRECT wants it
	versions   []uint64
	next       int
	written    uint64
	err        error
	stop, done chan struct{}
}

func startDisk(o load.Disk) (*disk, error) {
	if o.Blocks == 0 {
		return nil, nil
	}
	path, err := findDisk(o.Serial)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	block, err := unix.Mmap(-1, 0, load.BlockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	d := &disk{file: f, block: block, versions: make([]uint64, o.Blocks), stop: make(chan struct{}), done: make(chan struct{})}
	go paced(float64(o.Rate), d.stop, d.done, d.write)
	return d, nil
}

// findDisk waits for none: a disk that is to be written is there.
func findDisk(serial string) (string, error) {
	files, _ := filepath.Glob("/sys/block/*/serial")
	nvme, _ := filepath.Glob("/sys/block/nvme*/device/serial")
	for _, file := range append(files, nvme...) {
		if b, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(b)) == serial {
			return "/dev/" + strings.Split(file, "/")[3], nil
		}
	}
	return "", fmt.Errorf("no disk with serial %q", serial)
}

func (d *disk) write() {
	if d.err != nil {
		return
	}
	i := d.next
	load.Fill(d.block, uint64(i), d.versions[i]+1)
	if _, d.err = d.file.WriteAt(d.block, int64(i)*load.BlockSize); d.err == nil {
		d.err = unix.Fdatasync(int(d.file.Fd()))
	}
	if d.err == nil {
		d.versions[i]++
		d.next = (i + 1) % len(d.versions)
		d.written++
	}
}

func (d *disk) pause() {
	select {
	case <-d.stop:
	default:
		close(d.stop)
	}
	<-d.done
}

func (d *disk) end() {
	d.pause()
	_ = unix.Munmap(d.block)
	_ = d.file.Close()
}

// verify reads what was written; blocks that never were may hold anything. An error of a write is the answer's.
func (d *disk) verify() (load.Result, error) {
	d.pause()
	r := load.Result{Written: d.written}
	for i, v := range d.versions {
		if v == 0 {
			continue
		}
		if _, err := d.file.ReadAt(d.block, int64(i)*load.BlockSize); err != nil {
			return r, err
		}
		r.Checked++
		if !load.Holds(d.block, uint64(i), v) {
			r.Bad++
		}
	}
	return r, d.err
}
