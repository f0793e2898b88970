package slot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// EFIVarsDir is where init mounts efivarfs.
const EFIVarsDir = "/sys/firmware/efi/efivars"

// maxVariable bounds what is read of one; a boot entry has some hundred bytes.
const maxVariable = 64 << 10

// ours are the attributes of our variables: non-volatile, visible to boot services and to the running
// system. A file starts with four bytes of them.
const ours uint32 = 0x07

const attributesLen = 4

// EFIVars are the Variables of a running machine. The zero value is usable.
type EFIVars struct{ Dir string } // "" for EFIVarsDir

var _ Variables = EFIVars{}

// OpenFirmware is the machine's boot manager, without Variables when there is none.
func OpenFirmware() Firmware {
	// An empty folder is there on every UEFI kernel; a mounted one has at least the boot order.
	if list, err := os.ReadDir(EFIVarsDir); err != nil || len(list) == 0 {
		return Firmware{}
	}
	return Firmware{EFIVars{}}
}

func (v EFIVars) dir() string {
	if v.Dir == "" {
		return EFIVarsDir
	}
	return v.Dir
}

func (v EFIVars) path(name, vendor string) string { return filepath.Join(v.dir(), name+"-"+vendor) }

// Get implements Variables; a file starts with the attributes.
func (v EFIVars) Get(name, vendor string) ([]byte, error) {
	f, err := os.Open(v.path(name, vendor))
	if err != nil {
		return nil, fmt.Errorf("read EFI variable %s: %w", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxVariable))
	if err != nil {
		return nil, fmt.Errorf("read EFI variable %s: %w", name, err)
	}
	if len(b) < attributesLen {
		return nil, fmt.Errorf("read EFI variable %s: it has no attributes", name)
	}
	return b[attributesLen:], nil
}

// Set implements Variables.
func (v EFIVars) Set(name, vendor string, value []byte) error {
	return v.SetAs(name, vendor, ours, value)
}

// SetAs sets a variable with other attributes: one write(2) sets both, and replaces what was there.
func (v EFIVars) SetAs(name, vendor string, attributes uint32, value []byte) error {
	path := v.path(name, vendor)
	if err := mutable(path); err != nil {
		return fmt.Errorf("write EFI variable %s: %w", name, err)
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return failed("write", name, err)
	}
	_, err = unix.Write(fd, append(binary.LittleEndian.AppendUint32(nil, attributes), value...))
	return failed("write", name, errors.Join(err, unix.Close(fd)))
}

// Delete implements Variables.
func (v EFIVars) Delete(name, vendor string) error {
	path := v.path(name, vendor)
	if err := mutable(path); err != nil {
		return fmt.Errorf("delete EFI variable %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("delete", name, err)
	}
	return nil
}

// Names implements Variables.
func (v EFIVars) Names(vendor string) ([]string, error) {
	list, err := os.ReadDir(v.dir())
	if err != nil {
		return nil, fmt.Errorf("list EFI variables: %w", err)
	}
	var names []string
	for _, f := range list {
		if name, ok := strings.CutSuffix(f.Name(), "-"+vendor); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

func failed(what, name string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EIO) {
		return fmt.Errorf("%s EFI variable %s: the firmware has no room for it (%w); delete old boot entries in the firmware setup", what, name, err)
	}
	if err != nil {
		return fmt.Errorf("%s EFI variable %s: %w", what, name, err)
	}
	return nil
}

// mutable takes the flag from a variable that efivarfs puts on all it does not know, to keep
// people from deleting what a machine needs to start.
func mutable(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if errors.Is(err, unix.ENOTTY) {
		return nil // not efivarfs
	}
	const immutable = 0x10 // FS_IMMUTABLE_FL in linux/fs.h
	if err != nil || flags&immutable == 0 {
		return err
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable)
}
