package disk

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/hw/internal/sysfs"
)

// Identity is what a disk says about itself. Fields it does not tell are empty.
type Identity struct {
	Serial   string
	Unique   string // world-wide name with its kind: "nvme:<eui or nguid>" or "wwn:<naa>"
	Model    string
	Firmware string
	Size     uint64 // bytes
}

// IDs are the disk's stable names, the best first.
func (id Identity) IDs() []string {
	var ids []string
	if id.Serial != "" {
		ids = append(ids, "serial:"+id.Serial)
	}
	if id.Unique != "" {
		ids = append(ids, id.Unique)
	}
	return ids
}

// Read looks at the block device whose directory in sysfs is dir (…/block/sda, …/nvme0n1).
func Read(dir string) Identity {
	sectors, _ := strconv.ParseUint(sysfs.Attribute(dir, "size"), 10, 64)
	id := Identity{Size: sectors * 512} // sysfs counts in 512 bytes whatever the disk's sectors are
	device := filepath.Join(dir, "device")
	switch {
	case sysfs.Attribute(dir, "serial") != "": // virtio-blk has it at the disk
		id.Serial = clean(sysfs.Attribute(dir, "serial"))
	case strings.HasPrefix(filepath.Base(dir), "nvme"):
		id.readNVMe(dir, device)
	default:
		id.readSCSI(device)
	}
	return id
}

func (id *Identity) readNVMe(dir, device string) {
	id.Serial = clean(sysfs.Attribute(device, "serial"))
	id.Model = text(sysfs.Attribute(device, "model"))
	id.Firmware = clean(sysfs.Attribute(device, "firmware_rev"))
	for _, name := range []string{"nguid", "eui"} {
		// "6eeb7a4f-…" and "00 02 b3 …": only the digits count; all zero means none.
		digits := strings.Map(hexOnly, strings.ToLower(sysfs.Attribute(dir, name)))
		if strings.Trim(digits, "0") != "" {
			id.Unique = "nvme:" + digits
			break
		}
	}
	// Namespaces of one controller share its serial: only the first goes by it.
	if nsid := sysfs.Attribute(dir, "nsid"); nsid != "" && nsid != "1" {
		id.Serial = clean(id.Serial + "-n" + nsid)
	}
}

func (id *Identity) readSCSI(device string) {
	id.Model = text(sysfs.Attribute(device, "vendor") + " " + sysfs.Attribute(device, "model"))
	id.Firmware = clean(sysfs.Attribute(device, "rev"))
	if page, err := os.ReadFile(filepath.Join(device, "vpd_pg80")); err == nil {
		id.Serial = unitSerial(page)
	}
	if page, err := os.ReadFile(filepath.Join(device, "vpd_pg83")); err == nil {
		if naa := deviceNAA(page); naa != "" {
			id.Unique = "wwn:" + naa
		}
	}
	if id.Serial == "" {
		id.Serial = usbSerial(device)
	}
}

// unitSerial reads SCSI VPD page 0x80: type, page, two bytes of length, text.
func unitSerial(page []byte) string {
	if len(page) < 4 || page[1] != 0x80 {
		return ""
	}
	n := min(int(page[2])<<8|int(page[3]), len(page)-4)
	return clean(string(page[4 : 4+n]))
}

// deviceNAA finds the logical unit's NAA name in SCSI VPD page 0x83, a list of designators.
func deviceNAA(page []byte) string {
	if len(page) < 4 || page[1] != 0x83 {
		return ""
	}
	rest := page[4 : 4+min(int(page[2])<<8|int(page[3]), len(page)-4)]
	for len(rest) >= 4 {
		association, kind, n := rest[1]>>4&3, rest[1]&0xf, int(rest[3])
		if len(rest) < 4+n {
			return ""
		}
		const logicalUnit, naa = 0, 3
		if association == logicalUnit && kind == naa {
			return clean(hex.EncodeToString(rest[4 : 4+n]))
		}
		rest = rest[4+n:]
	}
	return ""
}

// usbSerial climbs from the SCSI device to the USB device above it; usb-storage hides the
// VPD pages of many sticks, but the USB descriptor has a serial.
func usbSerial(device string) string {
	dir, err := filepath.EvalSymlinks(device)
	if err != nil {
		return ""
	}
	for range 8 { // a stick behind hubs is still within that many levels
		dir = filepath.Dir(dir)
		if sysfs.Attribute(dir, "idVendor") != "" {
			return clean(sysfs.Attribute(dir, "serial"))
		}
	}
	return ""
}

// text makes what a device says fit for a console: printable ASCII, no runs of blanks. A
// device is outside input.
func text(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// maxName keeps an identifier within a ledger record, whose texts have at most 255 bytes, and within a request.
const maxName = 128

// clean makes it fit for an identifier too, which ends up in configurations: no blanks at all. One that is too long ends in
// a digest of all of it, so that two of them stay different.
func clean(s string) string {
	s = strings.ReplaceAll(text(s), " ", "_")
	if len(s) <= maxName {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return s[:maxName-17] + "-" + hex.EncodeToString(sum[:8])
}

func hexOnly(r rune) rune {
	if r >= '0' && r <= '9' || r >= 'a' && r <= 'f' {
		return r
	}
	return -1
}
