package vm

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/boot/bzimage"

	"github.com/ratchetos/ratchet/qemu/internal/cache"
)

// unpackedKept bounds the cache: a kernel is some 60 MiB unpacked, and few are in use at a time.
const unpackedKept = 6

// unpacked is a kernel as an ELF file for QEMU, made to enter at startAt, and where it has its own entry point.
type unpacked struct {
	path  string
	entry uint32
}

// unpack makes an ELF file of a bzImage, once for each kernel, and keeps it in the cache: an emulated processor takes
// longer to unpack a kernel than to boot it. What is no bzImage, or has no entry point that QEMU could use,
// gives nil: QEMU knows other ways, and says what is wrong with the rest.
func unpack(kernel string) (*unpacked, error) {
	packed, err := os.ReadFile(kernel)
	if err != nil {
		return nil, fmt.Errorf("read the kernel: %w", err)
	}
	dir, err := cache.Dir("kernel")
	if err != nil {
		return nil, err
	}
	unlock, err := cache.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	name := fmt.Sprintf("%x", sha256.Sum256(packed))
	if u := cached(dir, name); u != nil {
		return u, nil
	}
	var bz bzimage.BzImage
	if err := bz.UnmarshalBinary(packed); err != nil {
		return nil, nil
	}
	entry, ok := enterAt(bz.KernelCode, startAt)
	if !ok {
		return nil, nil
	}
	u := &unpacked{filepath.Join(dir, fmt.Sprintf("%s-%x.elf", name, entry)), entry}
	if err := write(u.path, bz.KernelCode); err != nil {
		return nil, fmt.Errorf("keep the unpacked kernel: %w", err)
	}
	return u, prune(dir)
}

// cached finds a kernel that was unpacked before; its entry point is in the name of the file.
func cached(dir, name string) *unpacked {
	found, _ := filepath.Glob(filepath.Join(dir, name+"-*.elf"))
	for _, path := range found {
		entry := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), name+"-"), ".elf")
		n, err := strconv.ParseUint(entry, 16, 32)
		now := time.Now()
		if err == nil && os.Chtimes(path, now, now) == nil { // prune goes by it
			return &unpacked{path, uint32(n)}
		}
	}
	return nil
}

// write makes a file whole or not at all.
func write(path string, data []byte) error {
	fresh := path + ".new"
	if err := os.WriteFile(fresh, data, 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// prune removes the kernels that were not used for longest.
func prune(dir string) error {
	kept, err := filepath.Glob(filepath.Join(dir, "*.elf"))
	if err != nil {
		return err
	}
	used := make(map[string]time.Time)
	for _, path := range kept {
		if info, err := os.Stat(path); err == nil {
			used[path] = info.ModTime()
		}
	}
	slices.SortFunc(kept, func(a, b string) int { return cmp.Compare(used[b].UnixNano(), used[a].UnixNano()) })
	for _, path := range kept[min(len(kept), unpackedKept):] {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}
