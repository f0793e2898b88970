package kmod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

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

// noWait keeps the kernel from ending each load by waiting for all scans that are under way, those of
// drivers that were bound before included: scans and loads go on beside each other. Nothing probes by
// itself in a frozen system, so that this is all it changes.
const noWait = "async_probe"

// Loader loads modules below one root directory.
type Loader struct {
	root   string
	insert func(path string, image []byte, parameters string) error

	mu      sync.Mutex
	closure map[string]Module
	done    map[string]bool

	ahead expander
}

// NewLoader uses the closure of the image below root. Without one (on a workstation) only
// modules that the running system has loaded can be asked for.
func NewLoader(root string) (*Loader, error) {
	l := &Loader{root: root, insert: insert, done: map[string]bool{}}
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
	l.expand(Canonical(name))
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
	path := l.path(m)
	image, err := l.ahead.take(path)
	if err == nil {
		err = l.insert(path, image, strings.TrimSpace(parameters[name]+" "+noWait))
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", name, err)
	}
	l.done[name] = true
	return nil
}

// path of a module's file.
func (l *Loader) path(m Module) string {
	if filepath.IsAbs(m.Path) {
		return filepath.Join(l.root, m.Path)
	}
	return filepath.Join(l.root, "/lib/modules", m.Path)
}

// expand decompresses a module and what it depends on, before the caller waits for its turn at the
// kernel: that takes as long as the insertion, and several goroutines can do it at once.
func (l *Loader) expand(name string) {
	m, known := l.closure[name] // the closure does not change after NewLoader
	if !known || m.Path == "" || l.ahead.taken(l.path(m)) || l.present(name) {
		return
	}
	for _, dep := range m.Depends {
		l.expand(dep)
	}
	l.ahead.start(l.path(m))
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
