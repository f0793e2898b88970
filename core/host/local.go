package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	document "github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// Local opens what needs no hardware:
//
//	LISTENER     "tcp:<host>:<port>" or "unix:<path>"
//	DIRECTORY    "" or "state" for the plugin's own, "dir:<path>" for another, "bpf" for one that holds BPF objects
//	MEMORY       a memfd of Want.Size bytes, private to the plugin
//	DISK         "file:<path>": a file that stands in for a disk
//	FILE         "file:<path>", for reading
//	DISK_CACHED  as DISK, for reading through the page cache
type Local struct {
	// Dir holds the plugins' own directories.
	Dir string
}

var _ Resources = Local{}

// errNoHardware is what a Local answers to a Want for hardware.
var errNoHardware = errors.New("no hardware here: use file:<path> for a disk, or run on the appliance")

// isLocal says whether a Want is of the kinds that Local opens.
func isLocal(w *pluginpb.Want) bool {
	switch w.GetKind() {
	case pluginpb.Kind_LISTENER, pluginpb.Kind_DIRECTORY, pluginpb.Kind_MEMORY, pluginpb.Kind_FILE:
		return true
	case pluginpb.Kind_DISK, pluginpb.Kind_DISK_CACHED:
		return strings.HasPrefix(w.GetSelector(), "file:")
	default:
		return false
	}
}

// Identify implements Resources.
func (l Local) Identify(_ context.Context, _ string, w *pluginpb.Want) (string, error) {
	switch w.GetKind() {
	case pluginpb.Kind_LISTENER:
		network, addr, err := document.ListenAddress(w.GetSelector())
		if err != nil || strings.HasSuffix(addr, ":0") {
			return "", err // port 0 is another one for everybody
		}
		return network + ":" + addr, nil
	case pluginpb.Kind_DISK, pluginpb.Kind_DISK_CACHED:
		path := strings.TrimPrefix(w.GetSelector(), "file:")
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		return "file:" + path, nil
	case pluginpb.Kind_DIRECTORY, pluginpb.Kind_MEMORY, pluginpb.Kind_FILE:
		return "", nil
	default:
		return "", errNoHardware
	}
}

// Open implements Resources.
func (l Local) Open(_ context.Context, req Request) (Opened, error) {
	switch req.Want.GetKind() {
	case pluginpb.Kind_LISTENER:
		return openListener(req)
	case pluginpb.Kind_DIRECTORY:
		return l.openDirectory(req)
	case pluginpb.Kind_MEMORY:
		return openMemory(req)
	case pluginpb.Kind_DISK:
		if path, ok := strings.CutPrefix(req.Want.GetSelector(), "file:"); ok {
			return openDiskFile(path)
		}
	case pluginpb.Kind_FILE, pluginpb.Kind_DISK_CACHED:
		if path, ok := strings.CutPrefix(req.Want.GetSelector(), "file:"); ok {
			return openFile(path)
		}
	}
	return Opened{}, errNoHardware
}

func (l Local) openDirectory(req Request) (Opened, error) {
	var path string
	switch sel := req.Want.GetSelector(); {
	case sel == "bpf":
		return l.openPins(req)
	case sel == "" || sel == "state":
		path = filepath.Join(l.Dir, req.Plugin)
	case strings.HasPrefix(sel, "dir:"):
		path = filepath.Clean(strings.TrimPrefix(sel, "dir:"))
	default:
		return Opened{}, fmt.Errorf("open directory %q: write state, bpf, or dir:<path>", sel)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return Opened{}, fmt.Errorf("make directory: %w", err)
	}
	// RDONLY and not O_PATH: the plugin lists it and syncs it.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return Opened{}, fmt.Errorf("open directory: %w", err)
	}
	if err := giveTo(f, req.UID); err != nil {
		f.Close()
		return Opened{}, err
	}
	return Opened{Handle: &pluginpb.Handle{Id: path}, File: f}, nil
}

// giveTo makes uid the owner of an empty directory. One with somebody else's files in it is
// left alone: taking over a tree is the operator's decision.
func giveTo(dir *os.File, uid int) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return fmt.Errorf("stat directory %s: %w", dir.Name(), err)
	}
	if uid == 0 || int(st.Uid) == uid {
		return nil
	}
	if names, _ := dir.Readdirnames(1); len(names) > 0 {
		return fmt.Errorf("directory %s belongs to uid %d: run chown -R %d:%d %s", dir.Name(), st.Uid, uid, uid, dir.Name())
	}
	if _, err := dir.Seek(0, 0); err != nil {
		return fmt.Errorf("rewind directory %s: %w", dir.Name(), err)
	}
	if err := dir.Chown(uid, uid); err != nil {
		return fmt.Errorf("give directory to uid %d: %w", uid, err)
	}
	return nil
}

func openMemory(req Request) (Opened, error) {
	size := req.Want.GetSize()
	if size == 0 || size > 1<<40 {
		return Opened{}, fmt.Errorf("open memory of %d bytes: not a size", size)
	}
	fd, err := unix.MemfdCreate("ratchet-"+req.Plugin, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return Opened{}, fmt.Errorf("make memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), req.Want.GetName())
	// Sealed in size, so that a mapping of it can never fault.
	if err = f.Truncate(int64(size)); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		f.Close()
		return Opened{}, fmt.Errorf("size memfd: %w", err)
	}
	return Opened{
		Handle: &pluginpb.Handle{Id: req.Want.GetName(), Size: size, Fresh: true},
		File:   f,
		Sent:   func(h *pluginpb.Handle) { h.Fresh = false },
	}, nil
}

// openFile opens a file that the plugin's own user may not be able to read, a private key.
func openFile(path string) (Opened, error) {
	// A fifo would hold core up until somebody writes to it.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Opened{}, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %s: not a regular file", path)
	}
	if err != nil {
		f.Close()
		return Opened{}, err
	}
	return Opened{Handle: &pluginpb.Handle{Id: "file:" + path, Size: uint64(info.Size())}, File: f}, nil
}

// openDiskFile opens a file that stands in for a disk, for one plugin alone.
func openDiskFile(path string) (Opened, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) { // tmpfs and some others have no direct I/O
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if errors.Is(err, os.ErrNotExist) {
		return Opened{}, fmt.Errorf("open disk file %s: it does not exist; make it with truncate -s 10G %s", path, path)
	}
	if err != nil {
		return Opened{}, fmt.Errorf("open disk file: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file; name a device by its id, see ratchetctl hw list")
	}
	if err == nil {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another process has it open and locked")
		}
	}
	if err != nil {
		f.Close()
		return Opened{}, fmt.Errorf("open disk file %s: %w", path, err)
	}
	return Opened{Handle: &pluginpb.Handle{Id: "file:" + path, Size: uint64(info.Size())}, File: f}, nil
}

// router sends Wants to Local, to methods or to the box's own Resources.
type router struct {
	local    Local
	methods  methods
	hardware Resources // nil on a machine without
}

var _ Resources = router{}

func (r router) pick(w *pluginpb.Want) Resources {
	switch {
	case w.GetKind() == pluginpb.Kind_METHOD:
		return r.methods
	case r.hardware == nil || isLocal(w):
		return r.local
	}
	return r.hardware
}

// Identify implements Resources.
func (r router) Identify(ctx context.Context, plugin string, w *pluginpb.Want) (string, error) {
	return r.pick(w).Identify(ctx, plugin, w)
}

// Open implements Resources.
func (r router) Open(ctx context.Context, req Request) (Opened, error) {
	return r.pick(req.Want).Open(ctx, req)
}
