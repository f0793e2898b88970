package kmod

import (
	"errors"
	"fmt"
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
	// Devices are made when they are asked for, and what clients write is not searched for partitions.
	"nbd": "nbds_max=0 max_part=0",
}

// noWait keeps the kernel from ending each load by waiting for all scans that are under way, those of
// drivers that were bound before included: scans and loads go on beside each other. Nothing probes by
// itself in a frozen system, so that this is all it changes.
const noWait = "async_probe"

// waits are drivers of devices that another driver makes in its probe. With noWait theirs would be probed in
// the background, and nothing in sysfs tells when that has found all disks.
var waits = map[string]bool{"virtio_scsi": true}

// Loader loads modules below one root directory.
type Loader struct {
	root    string
	insert  func(path string, image []byte, parameters string) error
	decoder func() (*zstd.Decoder, error)
	closure map[string]Module // does not change

	mu     sync.Mutex
	urgent int                   // callers in LoadFirst
	calm   *sync.Cond            // urgent has become 0
	loads  map[string]*insertion // under way or done
}

// insertion is the one load of a module; whoever else wants it waits for it.
type insertion struct {
	done chan struct{} // closed with err set
	err  error
}

// NewLoader uses the closure of the image below root. Without one (on a workstation) only
// modules that the running system has loaded can be asked for.
func NewLoader(root string) (*Loader, error) {
	l := &Loader{root: root, insert: insert, decoder: sync.OnceValues(newDecoder), loads: map[string]*insertion{}}
	l.calm = sync.NewCond(&l.mu)
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

// Load makes sure that the modules are in the kernel. The error wraps ErrUnknown when the image
// does not carry one.
func (l *Loader) Load(names ...string) error { return l.all(names, l.yield) }

// LoadFirst is Load for a driver whose work begins when it is there, such as a scan that takes its
// time: modules of Load that are not under way yet wait until it is through.
func (l *Loader) LoadFirst(names ...string) error {
	l.mu.Lock()
	l.urgent++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.urgent--; l.urgent == 0 {
			l.calm.Broadcast()
		}
	}()
	return l.all(names, func() {})
}

// yield waits while somebody is in LoadFirst. The caller must not have a module under way: LoadFirst
// may wait for it.
func (l *Loader) yield() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.urgent > 0 {
		l.calm.Wait()
	}
}

func (l *Loader) all(names []string, yield func()) error {
	for _, name := range names {
		if err := l.load(Canonical(name), yield); err != nil {
			return err
		}
	}
	return nil
}

// load recurses along Depends; ParseClosure has made sure that this ends.
func (l *Loader) load(name string, yield func()) error {
	m := l.closure[name]
	for _, dep := range m.Depends {
		if err := l.load(dep, yield); err != nil {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	yield()
	l.mu.Lock()
	i, known := l.loads[name]
	if !known {
		i = &insertion{done: make(chan struct{})}
		l.loads[name] = i
	}
	l.mu.Unlock()
	if known {
		<-i.done
		return i.err
	}
	i.err = fmt.Errorf("load module %s: interrupted by a panic", name)
	defer func() {
		if i.err != nil { // the next one may try again
			l.mu.Lock()
			delete(l.loads, name)
			l.mu.Unlock()
		}
		close(i.done)
	}()
	err := l.one(name)
	if err != nil {
		err = fmt.Errorf("load module %s: %w", name, err)
	}
	i.err = err
	return err
}

// one loads a module whose dependencies are loaded. Several go on beside each other: the kernel checks
// signatures and relocates outside its lock, which under emulation takes most of the time.
func (l *Loader) one(name string) error {
	m, known := l.closure[name]
	switch {
	case l.present(name) || known && m.Path == "":
		return nil
	case !known:
		return ErrUnknown
	}
	path := l.path(m)
	image, err := l.expand(path)
	if err == nil {
		options := []string{parameters[name]}
		if !waits[name] {
			options = append(options, noWait)
		}
		err = l.insert(path, image, strings.TrimSpace(strings.Join(options, " ")))
	}
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// path of a module's file.
func (l *Loader) path(m Module) string {
	if filepath.IsAbs(m.Path) {
		return filepath.Join(l.root, m.Path)
	}
	return filepath.Join(l.root, "/lib/modules", m.Path)
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
