package inventory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/host"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/hw"
	"github.com/ratchetos/ratchet/hw/disk"
)

var _ host.Resources = (*Inventory)(nil)

// Identify implements host.Resources: the id of the device that the selector means.
func (inv *Inventory) Identify(_ context.Context, _ string, w *pluginpb.Want) (string, error) {
	if w.GetKind() == pluginpb.Kind_FACILITY {
		return "facility:" + w.GetSelector(), nil
	}
	d, err := inv.Resolve(w.GetSelector())
	if err != nil {
		return "", err
	}
	return d.ID, nil
}

// Open implements host.Resources for disks, NICs and parts of the kernel.
func (inv *Inventory) Open(_ context.Context, req host.Request) (host.Opened, error) {
	if req.Want.GetKind() == pluginpb.Kind_FACILITY {
		return inv.openFacility(req)
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	d, err := inv.resolve(req.Want.GetSelector())
	if err != nil {
		return host.Opened{}, err
	}
	if want := kindOf(req.Want.GetKind()); d.Kind != want {
		return host.Opened{}, fmt.Errorf("%s is a %s, not a %s", d.ID, d.Kind, want)
	}
	if req.Want.GetKind() == pluginpb.Kind_DISK_CACHED {
		return inv.openCached(d, req)
	}
	if d.Owner != "" {
		return host.Opened{}, fmt.Errorf("%s belongs to %s", d.ID, d.Owner)
	}
	if err := inv.allowed(d); err != nil {
		return host.Opened{}, err
	}
	if d.Kind == hw.NIC {
		return inv.openNIC(d.Device, req)
	}
	return inv.openDisk(d.Device, req)
}

func kindOf(k pluginpb.Kind) hw.Kind {
	if k == pluginpb.Kind_NIC {
		return hw.NIC
	}
	return hw.Disk
}

func (inv *Inventory) openDisk(d hw.Device, req host.Request) (host.Opened, error) {
	f, err := open(d)
	if err != nil {
		return host.Opened{}, err
	}
	own, err := duplicate(f)
	if err != nil {
		f.Close()
		return host.Opened{}, err
	}
	inv.leases[d.ID] = &lease{device: d, owner: req.Plugin, file: own}
	return host.Opened{
		Handle: &pluginpb.Handle{Id: d.ID, Size: d.Size}, File: f,
		Release: func() error { return inv.release(d.ID) },
	}, nil
}

// openCached opens a disk that the plugin has, a second time: what is read through this descriptor stays in the page
// cache, which direct writes through the other one keep right.
func (inv *Inventory) openCached(d Device, req host.Request) (host.Opened, error) {
	if d.Owner != req.Plugin {
		return host.Opened{}, fmt.Errorf("%s is not a disk of %s", d.ID, req.Plugin)
	}
	f, err := os.Open(d.Node)
	if err != nil {
		return host.Opened{}, err
	}
	return host.Opened{Handle: &pluginpb.Handle{Id: d.ID, Size: d.Size}, File: f}, nil
}

func (inv *Inventory) openNIC(d hw.Device, req host.Request) (host.Opened, error) {
	if req.NetNS == nil {
		return host.Opened{}, fmt.Errorf("%s: plugin %s has no network namespace of its own to take a NIC into", d.ID, req.Plugin)
	}
	if d.Node == "" {
		return host.Opened{}, fmt.Errorf("%s: no driver is bound", d.ID)
	}
	if err := host.MoveLink(d.Node, int(req.NetNS.Fd())); err != nil {
		return host.Opened{}, err
	}
	ns := req.NetNS
	inv.leases[d.ID] = &lease{device: d, owner: req.Plugin}
	return host.Opened{
		Handle: &pluginpb.Handle{Id: d.ID, Device: d.Node},
		Release: func() error {
			// The plugin may have renamed it: it is found by its address.
			return errors.Join(host.ReturnLink(d.MAC, d.Node, ns), inv.release(d.ID))
		},
	}, nil
}

func (inv *Inventory) release(id string) error {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	l := inv.leases[id]
	delete(inv.leases, id)
	if l != nil && l.file != nil {
		return l.file.Close()
	}
	return nil
}

// open opens a disk for one owner.
func open(d hw.Device) (*os.File, error) {
	if d.Node == "" {
		return nil, fmt.Errorf("%s: no driver is bound", d.ID)
	}
	return disk.Open(d.Node)
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor of %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// content says what a disk holds that is not ours. Disks that cannot be read say so.
func content(d hw.Device) string {
	f, err := os.Open(d.Node)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	kind, err := disk.Signature(f, int64(d.Size))
	if err != nil {
		return err.Error()
	}
	return kind
}

func sizeOf(node string) uint64 {
	f, err := os.Open(node)
	if err != nil {
		return 0
	}
	defer f.Close()
	n, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0
	}
	return uint64(n)
}
