package guest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/ratchetos/ratchet/image/gobuild"
	"github.com/ratchetos/ratchet/image/kernel"
	"github.com/ratchetos/ratchet/qemu/guest/inside"
)

// Options of Build.
type Options struct {
	// Program is the import path of the command that becomes PID 1. It must need no C library.
	Program string
	// Modules that it may load; what they depend on comes along.
	Modules []string
	// Flavour of the kernel in configs/kernel.lock, "cloud" if empty.
	Flavour string
	// Dir is where the initrd is written.
	Dir string
}

// Image is what a machine starts from (vm.Direct).
type Image struct{ Kernel, Initrd string } // files

// Build makes a guest.
func Build(ctx context.Context, o Options) (Image, error) {
	if o.Flavour == "" {
		o.Flavour = "cloud"
	}
	fail := func(err error) (Image, error) {
		return Image{}, fmt.Errorf("build guest %s: %w", filepath.Base(o.Program), err)
	}
	k, err := kernel.Fetch(ctx, o.Flavour)
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return fail(err)
	}
	bin := filepath.Join(o.Dir, "init")
	if err := gobuild.Build(ctx, "", bin, nil, o.Program); err != nil {
		return fail(err)
	}
	initrd, err := archive(bin, k, o.Modules)
	if err != nil {
		return fail(err)
	}
	path := filepath.Join(o.Dir, "initrd")
	if err := os.WriteFile(path, initrd, 0o644); err != nil {
		return fail(err)
	}
	return Image{Kernel: k.Vmlinuz, Initrd: path}, nil
}

func archive(bin string, k *kernel.Kernel, modules []string) ([]byte, error) {
	init, err := os.ReadFile(bin)
	if err != nil {
		return nil, err
	}
	closure, err := k.Closure(modules)
	if err != nil {
		return nil, err
	}
	if len(closure.Missing) > 0 {
		return nil, fmt.Errorf("kernel %s has no modules %v", k.Release, closure.Missing)
	}
	records := []cpio.Record{
		cpio.StaticFile("init", string(init), 0o755),
		cpio.Directory("dev", 0o755),
		cpio.CharDev("dev/console", 0o600, 5, 1),
	}
	var order bytes.Buffer
	for _, m := range closure.Modules {
		if m.Builtin {
			continue
		}
		b, err := os.ReadFile(m.File)
		if err != nil {
			return nil, err
		}
		records = append(records, cpio.StaticFile(m.Path[1:], string(b), 0o644))
		fmt.Fprintln(&order, m.Path)
	}
	records = append(records, cpio.StaticFile(inside.ModuleList[1:], order.String(), 0o644))
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	if err := cpio.WriteRecordsAndDirs(w, records); err != nil {
		return nil, err
	}
	return out.Bytes(), cpio.WriteTrailer(w)
}
