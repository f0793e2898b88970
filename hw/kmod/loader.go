package kmod

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// ErrUnknown is wrapped when a module is neither loaded nor in the closure.
var ErrUnknown = errors.New("module not in this image")

// ClosurePath is where the image keeps the list.
const ClosurePath = "/lib/modules/closure"

// Parameters that a module is loaded with.
var parameters = map[string]string{
	// Scan SCSI hosts inside the driver's probe: when bind returns, the disks are known.
	"scsi_mod": "scan=sync",
	// No USB device may be used before it was looked at.
	"usbcore": "authorized_default=0",
}

// Loader loads modules below one root directory.
type Loader struct {
	root   string
	insert func(f *os.File, parameters string) error

	mu      sync.Mutex
	closure map[string]Module
	done    map[string]bool
}

// NewLoader uses the closure of the image below root. Without one (on a workstation) only
// modules that the running system has loaded can be asked for.
func NewLoader(root string) (*Loader, error) {
	l := &Loader{root: root, insert: finit, done: map[string]bool{}}
	data, err := os.ReadFile(filepath.Join(root, ClosurePath))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read module closure: %w", err)
	}
	l.closure, err = ParseClosure(data)
	return l, err
}

// Load makes sure that the module is in the kernel. The error wraps ErrUnknown when the image
// does not carry it.
func (l *Loader) Load(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.load(Canonical(name))
}

// load recurses along Depends; ParseClosure has made sure that this ends.
func (l *Loader) load(name string) error {
	if l.done[name] {
		return nil
	}
	m, known := l.closure[name]
	if l.present(name) || known && m.Path == "" {
		l.done[name] = true
		return nil
	}
	if !known {
		return fmt.Errorf("load module %s: %w", name, ErrUnknown)
	}
	for _, dep := range m.Depends {
		if err := l.load(dep); err != nil {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	path := m.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join("/lib/modules", path)
	}
	f, err := os.Open(filepath.Join(l.root, path))
	if err != nil {
		return fmt.Errorf("load module %s: %w", name, err)
	}
	defer f.Close()
	if err := l.insert(f, parameters[name]); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", name, err)
	}
	l.done[name] = true
	return nil
}

// present says whether the module is loaded and has finished its start.
func (l *Loader) present(name string) bool {
	dir := filepath.Join(l.root, "/sys/module", name)
	state, err := os.ReadFile(filepath.Join(dir, "initstate"))
	if err == nil {
		return string(state) == "live\n"
	}
	// A built-in module has a directory when it has parameters, and never a state.
	_, err = os.Stat(dir)
	return err == nil
}

// maxModule bounds what a compressed module may become; the largest of Debian's have 6 MiB.
const maxModule = 64 << 20

// finit inserts a module. Images carry them compressed, which Debian's kernel cannot undo itself.
func finit(f *os.File, parameters string) error {
	if !strings.HasSuffix(f.Name(), ".zst") {
		return unix.FinitModule(int(f.Fd()), parameters, 0)
	}
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxModule))
	if err != nil {
		return err
	}
	defer z.Close()
	data, err := io.ReadAll(z)
	if err != nil {
		return fmt.Errorf("decompress %s: %w", f.Name(), err)
	}
	return unix.InitModule(data, parameters)
}
