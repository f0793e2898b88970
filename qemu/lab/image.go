package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"github.com/u-root/u-root/pkg/boot/bzimage"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/ratchetos/ratchet/image/gobuild"
	"github.com/ratchetos/ratchet/image/kernel"
	"github.com/ratchetos/ratchet/qemu/internal/cache"
)

// Image is what lab guests boot.
type Image struct {
	Kernel, Initrd string // files
	digest         string
}

var (
	// Modules loaded at the start, and those that are only there to be loaded by the agent.
	early = []string{"virtio_pci", "virtio_net", "virtio_console", "virtio_blk"}
	later = []string{"virtio_mem", "e1000", "e1000e", "virtio_scsi", "sd_mod", "nvme"}
)

const module = "github.com/ratchetos/ratchet/"

// build is done once a process.
var build = sync.OnceValues(func() (Image, error) { return buildImage(context.Background()) })

// Build returns the guests' image. Programs are compiled as they are in the working tree.
func Build() (Image, error) {
	i, err := build()
	if err != nil {
		return Image{}, fmt.Errorf("build the image of lab guests: %w", err)
	}
	return i, nil
}

func buildImage(ctx context.Context) (Image, error) {
	// The cloud kernel has no e1000.
	k, err := kernel.Fetch(ctx, "full")
	if err != nil {
		return Image{}, err
	}
	dir, err := cache.Dir("lab")
	if err != nil {
		return Image{}, err
	}
	programs, err := compile(ctx, dir, module+"qemu/lab/inside", module+"plugins/migration/agent/cmd/ratchet-guest-agent")
	if err != nil {
		return Image{}, err
	}
	initrd, err := archive(k, programs[0], programs[1])
	if err != nil {
		return Image{}, err
	}
	sum := sha256.Sum256(initrd)
	i := Image{digest: "pvh " + k.SHA256 + hex.EncodeToString(sum[:])}
	if i.Kernel, err = unpack(dir, k); err != nil {
		return Image{}, err
	}
	i.Initrd = filepath.Join(dir, fmt.Sprintf("initrd-%x", sum[:12]))
	now := time.Now()
	if err := os.Chtimes(i.Initrd, now, now); err == nil {
		return i, nil
	}
	if err := renameio.WriteFile(i.Initrd, initrd, 0o644); err != nil {
		return Image{}, err
	}
	return i, keepNewest(dir, "initrd-*", 4)
}

// unpack keeps the kernel as an ELF file, which QEMU enters by its PVH entry point: an emulated processor takes longer to unpack
// a kernel than to boot it.
func unpack(dir string, k *kernel.Kernel) (string, error) {
	path := filepath.Join(dir, "kernel-"+k.SHA256[:24])
	now := time.Now()
	if err := os.Chtimes(path, now, now); err == nil {
		return path, nil
	}
	packed, err := os.ReadFile(k.Vmlinuz)
	if err != nil {
		return "", err
	}
	var bz bzimage.BzImage
	if err := bz.UnmarshalBinary(packed); err != nil {
		return "", fmt.Errorf("unpack %s: %w", k.Vmlinuz, err)
	}
	if err := renameio.WriteFile(path, bz.KernelCode, 0o644); err != nil {
		return "", err
	}
	return path, keepNewest(dir, "kernel-*", 2)
}

// compile compiles commands and returns their bytes, which are the same for the same sources.
func compile(ctx context.Context, dir string, paths ...string) ([][]byte, error) {
	tmp, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if err := gobuild.Build(ctx, "", tmp, nil, paths...); err != nil {
		return nil, err
	}
	programs := make([][]byte, len(paths))
	for i, p := range paths {
		if programs[i], err = os.ReadFile(filepath.Join(tmp, path.Base(p))); err != nil {
			return nil, err
		}
	}
	return programs, nil
}

// archive packs the initramfs, with modules.dep as depmod would have written it.
func archive(k *kernel.Kernel, init, agent []byte) ([]byte, error) {
	closure, err := k.Closure(slices.Concat(early, later))
	if err != nil {
		return nil, err
	}
	if len(closure.Missing) > 0 {
		return nil, fmt.Errorf("kernel %s has no modules %v", k.Release, closure.Missing)
	}
	atStart, err := k.Closure(early)
	if err != nil {
		return nil, err
	}
	records := []cpio.Record{
		cpio.StaticFile("init", string(init), 0o755),
		cpio.StaticFile("agent", string(agent), 0o755),
		cpio.Directory("dev", 0o755),
		cpio.CharDev("dev/console", 0o600, 5, 1),
	}
	var builtin, dep, start strings.Builder
	dir := "lib/modules/" + k.Release + "/"
	paths := map[string]string{}
	for _, m := range closure.Modules { // each after those it depends on
		if m.Builtin {
			fmt.Fprintf(&builtin, "kernel/%s.ko\n", m.Name)
			continue
		}
		b, err := os.ReadFile(m.File)
		if err != nil {
			return nil, err
		}
		records = append(records, cpio.StaticFile(m.Path[1:], string(b), 0o644))
		path := strings.TrimPrefix(m.Path[1:], dir)
		paths[m.Name] = path
		fmt.Fprintf(&dep, "%s:%s\n", path, dependencies(closure, m, paths))
	}
	for _, m := range atStart.Modules {
		if !m.Builtin {
			fmt.Fprintln(&start, m.Path)
		}
	}
	records = append(records,
		cpio.StaticFile(dir+"modules.builtin", builtin.String(), 0o644),
		cpio.StaticFile(dir+"modules.dep", dep.String(), 0o644),
		cpio.StaticFile("modules", start.String(), 0o644))
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	if err := cpio.WriteRecordsAndDirs(w, records); err != nil {
		return nil, err
	}
	return out.Bytes(), cpio.WriteTrailer(w)
}

// dependencies are all that a module needs, the first to load last.
func dependencies(c kernel.Closure, m kernel.Module, paths map[string]string) string {
	need := map[string]bool{}
	var add func(m kernel.Module)
	add = func(m kernel.Module) {
		for _, d := range m.Deps {
			need[d] = true
			add(c.Modules[slices.IndexFunc(c.Modules, func(o kernel.Module) bool { return o.Name == d })])
		}
	}
	add(m)
	out := ""
	for _, o := range slices.Backward(c.Modules) {
		if need[o.Name] && paths[o.Name] != "" {
			out += " " + paths[o.Name]
		}
	}
	return out
}

// keepNewest removes all but the newest n files of a pattern.
func keepNewest(dir, pattern string, n int) error {
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return err
	}
	age := map[string]int64{}
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			age[f] = info.ModTime().UnixNano()
		}
	}
	slices.SortFunc(files, func(a, b string) int { return int(min(max(age[b]-age[a], -1), 1)) })
	for _, f := range files[min(len(files), n):] {
		os.Remove(f)
	}
	return nil
}
