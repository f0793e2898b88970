package builder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/image/initramfs"
	"github.com/ratchetos/ratchet/image/kernel"
)

// defaultConfig is baked into an image that is given none: valid, and nothing is started by it.
const defaultConfig = "# No configuration was baked into this image: see `ratchetctl config apply`.\nversion: 1\n"

// caBundle is where Debian and Ubuntu keep CA certificates; an image built elsewhere has none.
const caBundle = "/etc/ssl/certs/ca-certificates.crt"

// inputs are what an image is made of.
type inputs struct {
	stub    []byte
	kernel  *kernel.Kernel
	closure kernel.Closure
	system  initramfs.SystemFiles
}

// gather compiles the binary while the kernel is fetched; on a cold cache both take their time.
func (o Options) gather(ctx context.Context, p *progress) (*inputs, error) {
	in := &inputs{kernel: o.Kernel}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		done := p.step("kernel")
		if in.kernel == nil {
			k, err := kernel.Options{Cache: filepath.Join(o.CacheDir, "kernel"), Log: slog.New(p.handler())}.Fetch(ctx, o.Flavour)
			if err != nil {
				return err
			}
			in.kernel = k
		}
		c, err := in.kernel.Closure(o.Modules)
		if err != nil {
			return err
		}
		in.closure = c
		done("%s %s, %d modules", in.kernel.Package, in.kernel.Version, len(c.Modules))
		if len(c.Missing) > 0 {
			p.note("warning: kernel %s has no module %v", in.kernel.Release, c.Missing)
		}
		return nil
	})
	g.Go(func() error {
		path := o.Binary
		if path == "" {
			done := p.step("compile appliance")
			path = filepath.Join(o.Out, ApplianceFile)
			if err := o.Source.Compile(ctx, path); err != nil {
				return err
			}
			defer func() { done("%s, version %s", size(len(in.system.Init)), o.Source.Version) }()
		}
		var err error
		in.system.Init, err = os.ReadFile(path)
		return err
	})
	g.Go(func() (err error) {
		in.system.State, err = disk.StateTemplate()
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var err error
	if in.stub, err = os.ReadFile(o.Stub); err != nil {
		return nil, fmt.Errorf("read stub: %w", err)
	}
	in.system.Appliance = []byte(defaultConfig)
	if o.Config != "" {
		if in.system.Appliance, err = os.ReadFile(o.Config); err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
	}
	in.system.CA, err = os.ReadFile(caBundle)
	if errors.Is(err, os.ErrNotExist) {
		p.note("warning: no CA certificates in the image: %s is not there (apt install ca-certificates)", caBundle)
		err = nil
	}
	return in, err
}

// pack makes the initramfs: both archives, compressed side by side.
func (o Options) pack(in *inputs) (initrd []byte, raw int, err error) {
	modules, err := initramfs.Modules(in.closure)
	if err != nil {
		return nil, 0, err
	}
	system, err := initramfs.System(in.system)
	if err != nil {
		return nil, 0, err
	}
	cache := initramfs.Cache{Dir: filepath.Join(o.CacheDir, "initramfs")}
	var frames [2][]byte
	var g errgroup.Group
	for i, archive := range [][]byte{modules, system} {
		g.Go(func() (err error) {
			frames[i], err = cache.Compress(archive, o.Level)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, 0, err
	}
	return append(frames[0], frames[1]...), len(modules) + len(system), nil
}
