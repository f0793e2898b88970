package boot

import "github.com/ratchetos/ratchet/boot/slot"

const (
	efiDir     = "/sys/firmware/efi"
	efivarsDir = slot.EFIVarsDir
	// vendorLoader is of systemd's boot loader interface, which the stub follows.
	vendorLoader = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	// variableController holds the place of the boot disk's controller, in ASCII.
	variableController = "RatchetBootController"
)

// firmware is what UEFI, the stub and the boot before left behind.
type firmware struct {
	secureBoot bool
	setupMode  bool
	bootPart   string
	controller string
}

// efiVariable reads a variable, nil when there is none.
func efiVariable(dir, name, vendor string) []byte {
	b, err := slot.EFIVars{Dir: dir}.Get(name, vendor)
	if err != nil {
		return nil
	}
	return b
}

func readFirmware(dir string) firmware {
	f := firmware{
		bootPart:   utf16String(efiVariable(dir, "LoaderDevicePartUUID", vendorLoader)),
		controller: string(efiVariable(dir, variableController, slot.VendorRatchet)),
	}
	if b := efiVariable(dir, "SecureBoot", slot.VendorGlobal); len(b) == 1 {
		f.secureBoot = b[0] == 1
	}
	if b := efiVariable(dir, "SetupMode", slot.VendorGlobal); len(b) == 1 {
		f.setupMode = b[0] == 1
	}
	return f
}

// writeController leaves the hint for the next boot. The caller compares first: flash wears out.
func writeController(dir, place string) error {
	return slot.EFIVars{Dir: dir}.Set(variableController, slot.VendorRatchet, []byte(place))
}
