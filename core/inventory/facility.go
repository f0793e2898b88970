package inventory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/host"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/hw"
	"github.com/ratchetos/ratchet/hw/catalogue"
)

// configfs is where it is mounted; the directory is there in every kernel that has it.
const configfs = "/sys/kernel/config"

// configfsMagic is CONFIGFS_MAGIC of fs/configfs/mount.c.
const configfsMagic = 0x62656570

// Facilities is what Hardware implements when parts of the kernel can be handed out.
type Facilities interface {
	Facility(name string) (catalogue.Facility, error)
	LoadFacility(f catalogue.Facility) error
}

var _ Facilities = (*hw.System)(nil)

// openFacility brings up a part of the kernel for a companion. Modules stay loaded when it is given back: the kernel's
// targets refuse to go while anything of them is in use, and they cost nothing.
func (inv *Inventory) openFacility(req host.Request) (host.Opened, error) {
	name := req.Want.GetSelector()
	switch {
	case !req.Trusted:
		return host.Opened{}, fmt.Errorf("%s: only companions of built-in plugins are handed parts of the kernel", name)
	case inv.report == nil:
		return host.Opened{}, fmt.Errorf("%s: %w: a workstation's own kernel is left alone; this needs an appliance", name, ErrNotReleased)
	case inv.report.Box.Decision != verdict.Released:
		return host.Opened{}, fmt.Errorf("%s: %w: %s", name, ErrNotReleased, inv.report.Box.Reason)
	}
	kernel, ok := inv.hardware.(Facilities)
	if !ok {
		return host.Opened{}, fmt.Errorf("%s: this hardware has no parts of a kernel", name)
	}
	f, err := kernel.Facility(name)
	if err != nil {
		return host.Opened{}, err
	}
	if f.State != "" {
		if err := linkState(f.State, filepath.Join(req.Dir, name), req.UID); err != nil {
			return host.Opened{}, err
		}
	}
	if err := kernel.LoadFacility(f); err != nil {
		return host.Opened{}, err
	}
	o := host.Opened{Handle: &pluginpb.Handle{Id: name}}
	if f.Configfs == "" {
		return o, nil
	}
	if err := mountConfigfs(); err != nil {
		return host.Opened{}, err
	}
	o.Handle.Id = filepath.Join(configfs, f.Configfs)
	// The module has made the directory; the plugin may write below it by way of this descriptor (landlock).
	if o.File, err = os.OpenFile(o.Handle.GetId(), os.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		return host.Opened{}, fmt.Errorf("open %s in configfs: %w", name, err)
	}
	return o, nil
}

// linkState makes the directory in which the kernel keeps files a link to one on STATE, so that they last.
func linkState(at, dir string, uid int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the kernel's directory: %w", err)
	}
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chown(d, uid, uid); err != nil {
			return fmt.Errorf("make the kernel's directory: %w", err)
		}
	}
	if to, err := os.Readlink(at); err == nil && to == dir {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(at), 0o755)
	if err == nil {
		err = os.Symlink(dir, at)
	}
	if err != nil {
		return fmt.Errorf("link the kernel's directory: %w", err)
	}
	return nil
}

func mountConfigfs() error {
	var st unix.Statfs_t
	if err := unix.Statfs(configfs, &st); err == nil && st.Type == configfsMagic {
		return nil
	} else if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("mount configfs: the kernel has none")
	}
	if err := unix.Mount("configfs", configfs, "configfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount configfs: %w", err)
	}
	return nil
}
