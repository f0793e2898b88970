package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Files of an unpacked kernel in the cache.
const (
	vmlinuzFile = "vmlinuz"
	configFile  = "config"
	indexFile   = "index.json"
	modulesDir  = "modules"
)

// maxModule bounds one file of the package; the largest module of Debian 12 is 6 MiB.
const maxModule = 64 << 20

// skipped module folders hold half the package and nothing an appliance can bind.
var skipped = []string{"kernel/sound/", "kernel/drivers/gpu/", "kernel/drivers/media/", "kernel/drivers/iio/", "kernel/drivers/staging/"}

// index is what the cache remembers of a package.
type index struct {
	Format  int       `json:"format"`
	Package string    `json:"package"`
	Version string    `json:"version"`
	SHA256  string    `json:"sha256"`
	Release string    `json:"release"`
	Builtin []string  `json:"builtin"`
	Modules []modinfo `json:"modules"`
}

// indexFormat changes when unpacking does, so that an old cache is unpacked again.
const indexFormat = 1

// open returns the kernel unpacked in dir. Its index is written last, so a folder that
// has one is complete.
func open(dir string) (*Kernel, error) {
	ix, err := readIndex(dir)
	if err != nil {
		return nil, err
	}
	return &Kernel{
		Package: ix.Package, Version: ix.Version, SHA256: ix.SHA256, Release: ix.Release,
		Dir:     dir,
		Vmlinuz: filepath.Join(dir, vmlinuzFile),
		Config:  filepath.Join(dir, configFile),
		Modules: filepath.Join(dir, modulesDir),
	}, nil
}

func readIndex(dir string) (*index, error) {
	b, err := os.ReadFile(filepath.Join(dir, indexFile))
	if err != nil {
		return nil, fmt.Errorf("read kernel index: %w", err)
	}
	var ix index
	if err := json.Unmarshal(b, &ix); err != nil {
		return nil, fmt.Errorf("parse kernel index: %w", err)
	}
	if ix.Format != indexFormat {
		return nil, fmt.Errorf("kernel index has format %d, not %d", ix.Format, indexFormat)
	}
	return &ix, nil
}

func marshalIndex(ix *index) ([]byte, error) {
	b, err := json.Marshal(ix)
	if err != nil {
		return nil, fmt.Errorf("write kernel index: %w", err)
	}
	return b, nil
}

// unpack writes the package's kernel, modules and index to dir, all or nothing.
func (o Options) unpack(ctx context.Context, deb, dir string, pin Pin) (*Kernel, error) {
	start := time.Now()
	tmp, err := os.MkdirTemp(o.Cache, "unpack-")
	if err != nil {
		return nil, fmt.Errorf("make unpack folder: %w", err)
	}
	defer os.RemoveAll(tmp)

	// dpkg-deb and not a Go xz reader: whoever has apt-get has it, and it takes 3 s for
	// the full package where pure Go needs half a minute.
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("unpack kernel: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("unpack kernel: %w", err)
	}
	ix, err := unpackTar(out, tmp)
	if err != nil {
		// Closing the pipe ends dpkg-deb; its exit status then says nothing new.
		out.Close()
		_ = cmd.Wait()
		return nil, fmt.Errorf("unpack kernel: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("unpack kernel: dpkg-deb: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	ix.Package, ix.Version, ix.SHA256 = pin.Package, pin.Version, pin.SHA256
	b, err := marshalIndex(ix)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(tmp, indexFile), b, 0o644); err != nil {
		return nil, fmt.Errorf("write kernel index: %w", err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return nil, fmt.Errorf("write kernel index: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("replace cached kernel: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return nil, fmt.Errorf("replace cached kernel: %w", err)
	}
	o.Log.Info("unpacked kernel", "release", ix.Release, "modules", len(ix.Modules), "took", time.Since(start).Round(time.Millisecond))
	return open(dir)
}

// unpackTar takes kernel, configuration and modules out of a package's file tree.
func unpackTar(r io.Reader, dir string) (*index, error) {
	ix := &index{Format: indexFormat}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read package: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		// Clean below a root of our own: a name with .. stays inside.
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		rel, isModule := "", false
		dst := ""
		switch {
		case strings.HasPrefix(name, "boot/vmlinuz-"):
			dst, ix.Release = vmlinuzFile, strings.TrimPrefix(name, "boot/vmlinuz-")
		case strings.HasPrefix(name, "boot/config-"):
			dst = configFile
		case strings.HasPrefix(name, "lib/modules/"):
			_, rel, _ = strings.Cut(strings.TrimPrefix(name, "lib/modules/"), "/")
			isModule = strings.HasSuffix(rel, ".ko")
			if rel == "" || isModule && hasPrefix(rel, skipped) {
				continue
			}
			dst = filepath.Join(modulesDir, rel)
		default:
			continue
		}
		if h.Size > maxModule {
			return nil, fmt.Errorf("read package: %s is %d bytes", name, h.Size)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			return nil, fmt.Errorf("read package: %s: %w", name, err)
		}
		if isModule {
			m, err := parseModule(data)
			if err != nil {
				return nil, fmt.Errorf("module %s: %w", rel, err)
			}
			m.Path = rel
			ix.Modules = append(ix.Modules, m)
		}
		if rel == "modules.builtin" {
			for line := range strings.Lines(string(data)) {
				ix.Builtin = append(ix.Builtin, moduleName(strings.TrimSpace(line)))
			}
		}
		dst = filepath.Join(dir, dst)
		if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", name, err)
		}
		if err := os.WriteFile(dst, data, 0o644); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", name, err)
		}
	}
	if ix.Release == "" {
		return nil, errors.New("read package: no boot/vmlinuz-* inside: not a kernel package")
	}
	return ix, nil
}

func hasPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
