package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	efiDir     = "/sys/firmware/efi"
	efivarsDir = efiDir + "/efivars"
	// vendor GUIDs of the variables that are read
	vendorLoader = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f" // systemd's boot loader interface
	vendorGlobal = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	// vendorRatchet is of our own variables. Anybody who can boot the machine can write them.
	vendorRatchet = "1aeb42b7-7695-4871-8aaf-5d906df7658b"
	// variableController holds the place of the boot disk's controller, in ASCII.
	variableController = "RatchetBootController"
)

// efiAttributes of our variables: non-volatile, visible to boot services and to the running system.
var efiAttributes = []byte{0x07, 0, 0, 0}

// firmware is what UEFI, the stub and the boot before left behind.
type firmware struct {
	secureBoot bool
	setupMode  bool
	bootPart   string
	controller string
}

// efiVariable reads a variable without the 4 bytes of attributes in front; nil when there is none.
func efiVariable(dir, name, vendor string) []byte {
	b, err := os.ReadFile(filepath.Join(dir, name+"-"+vendor))
	if err != nil || len(b) < len(efiAttributes) {
		return nil
	}
	return b[len(efiAttributes):]
}

func readFirmware(dir string) firmware {
	f := firmware{
		bootPart:   utf16String(efiVariable(dir, "LoaderDevicePartUUID", vendorLoader)),
		controller: string(efiVariable(dir, variableController, vendorRatchet)),
	}
	if b := efiVariable(dir, "SecureBoot", vendorGlobal); len(b) == 1 {
		f.secureBoot = b[0] == 1
	}
	if b := efiVariable(dir, "SetupMode", vendorGlobal); len(b) == 1 {
		f.setupMode = b[0] == 1
	}
	return f
}

// writeController leaves the hint for the next boot. The caller compares first: flash wears out.
func writeController(dir, place string) error {
	path := filepath.Join(dir, variableController+"-"+vendorRatchet)
	if err := mutable(path); err != nil {
		return fmt.Errorf("write EFI variable %s: %w", variableController, err)
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("write EFI variable %s: %w", variableController, err)
	}
	// One write(2) sets attributes and value, and replaces what was there.
	value := append(append([]byte(nil), efiAttributes...), place...)
	_, err = unix.Write(fd, value)
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("write EFI variable %s: %w", variableController, err)
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
