package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/devmapper"
	"github.com/ratchetos/ratchet/boot/vault"
)

// statePath is the start of an empty file system for STATE, made by the image builder.
const statePath = "/etc/ratchet/state.ext4.zst"

// deviceMapper is Volumes on the running kernel.
type deviceMapper struct{}

var _ Volumes = deviceMapper{}

// node is an open block device.
type node struct{ *os.File }

// Size implements Partition.
func (n node) Size() (int64, error) { return n.Seek(0, io.SeekEnd) }

// Open implements Volumes.
func (deviceMapper) Open(path string) (Partition, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return node{f}, nil
}

// Map implements Volumes.
func (deviceMapper) Map(name, path string, m vault.Mapping) (string, error) {
	return devmapper.Open(devmapper.Crypt{
		Name: name, UUID: m.UUID, Backing: path, Offset: m.Offset, Size: m.Size,
		Cipher: m.Cipher, Key: m.Key, SectorSize: m.SectorSize,
	})
}

// Unmap implements Volumes.
func (deviceMapper) Unmap(name string) error { return devmapper.Remove(name) }

// Mount implements Volumes.
func (deviceMapper) Mount(node string) error { return state(node).do() }

// Unmount implements Volumes.
func (deviceMapper) Unmount() error {
	if err := unix.Unmount(stateMount, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount STATE: %w", err)
	}
	return nil // EINVAL: nothing is mounted there
}

// loadStorage loads what STATE and DATA need, side by side. Nothing in this image loads modules on the
// kernel's demand.
func loadStorage(load func(string) error) error {
	modules := [...]func() error{
		func() error { return load("ext4") },
		func() error { return load("dm_crypt") },
		func() error {
			// The processor's own AES brings XTS along; the generic parts do without.
			if load("aesni_intel") == nil {
				return nil
			}
			return load("xts")
		},
	}
	errs := make(chan error, len(modules))
	for _, f := range modules {
		go func() { errs <- f() }()
	}
	var all error
	for range modules {
		all = errors.Join(all, <-errs)
	}
	return all
}

// makeState writes the empty file system into a new STATE.
func (c *check) makeState(path string, size int64) error {
	template, err := c.StateTemplate()
	if err != nil {
		return err
	}
	defer template.Close()
	return overwrite(path, func(w io.WriterAt) error { return putState(w, template, size) })
}

// putState copies a file system of exactly the given size.
func putState(w io.WriterAt, template io.Reader, size int64) error {
	z, err := zstd.NewReader(template, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer z.Close()
	buf := make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := io.ReadFull(z, buf)
		if at == 0 && n >= 2048 {
			// Block count and size in ext4's superblock.
			if is := int64(binary.LittleEndian.Uint32(buf[1028:])) << (10 + binary.LittleEndian.Uint32(buf[1048:])&7); is != size {
				return fmt.Errorf("the image's empty file system has %d bytes, the volume %d", is, size)
			}
		}
		if at+int64(n) > size {
			return errors.New("the image's empty file system is larger than the volume")
		}
		if n > 0 {
			if _, err := w.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// blankData zeroes both ends of a new DATA: a volume that was never written reads as noise, and its first
// user looks there for somebody else's data.
func (c *check) blankData(path string, size int64) error {
	return overwrite(path, func(w io.WriterAt) error {
		edge := make([]byte, min(size, 1<<20))
		_, err := w.WriteAt(edge, 0)
		if err == nil {
			_, err = w.WriteAt(edge, size-int64(len(edge)))
		}
		return err
	})
}

// overwrite runs put on a device and makes what it wrote durable.
func overwrite(path string, put func(io.WriterAt) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = put(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
