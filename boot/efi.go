package boot

import (
	"os"
	"path/filepath"
)

const (
	efiDir     = "/sys/firmware/efi"
	efivarsDir = efiDir + "/efivars"
	// vendor GUIDs of the variables that are read
	vendorLoader = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f" // systemd's boot loader interface
	vendorGlobal = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
)

// firmware is what UEFI and the stub left behind.
type firmware struct {
	secureBoot bool
	bootPart   string
}

// efiVariable reads a variable without the 4 bytes of attributes in front; nil when there is none.
func efiVariable(dir, name, vendor string) []byte {
	b, err := os.ReadFile(filepath.Join(dir, name+"-"+vendor))
	if err != nil || len(b) < 4 {
		return nil
	}
	return b[4:]
}

func readFirmware(dir string) firmware {
	f := firmware{bootPart: utf16String(efiVariable(dir, "LoaderDevicePartUUID", vendorLoader))}
	if b := efiVariable(dir, "SecureBoot", vendorGlobal); len(b) == 1 {
		f.secureBoot = b[0] == 1
	}
	return f
}
