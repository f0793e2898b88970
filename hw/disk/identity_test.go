package disk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// tree unpacks a sysfs tree; "\x" sequences have no place in txtar, so binary pages are
// given by the test itself.
func tree(t testing.TB, archive string) string {
	t.Helper()
	root := t.TempDir()
	for _, f := range txtar.Parse([]byte(archive)).Files {
		path := filepath.Join(root, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestReadNVMe(t *testing.T) {
	root := tree(t, `
-- nvme0n1/size --
2097152
-- nvme0n1/nsid --
1
-- nvme0n1/nguid --
00000000-0000-0000-0000-000000000000
-- nvme0n1/eui --
00 02 b3 00 00 00 00 01
-- nvme0n1/device/serial --
 S4EV NF0M 
-- nvme0n1/device/model --
QEMU NVMe Ctrl                          
-- nvme0n1/device/firmware_rev --
7.2.22  
-- nvme0n2/size --
8
-- nvme0n2/nsid --
2
-- nvme0n2/device/serial --
S4EV
`)
	got := Read(filepath.Join(root, "nvme0n1"))
	want := Identity{Serial: "S4EV_NF0M", Unique: "nvme:0002b30000000001", Model: "QEMU NVMe Ctrl", Firmware: "7.2.22", Size: 1 << 30}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if second := Read(filepath.Join(root, "nvme0n2")); second.Serial != "S4EV-n2" {
		t.Errorf("second namespace has serial %q", second.Serial)
	}
}

func TestReadSCSI(t *testing.T) {
	root := tree(t, `
-- sda/size --
8
-- sda/device/vendor --
ATA     
-- sda/device/model --
QEMU HARDDISK   
-- sda/device/rev --
2.5+
`)
	page := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(root, "sda/device", name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	page("vpd_pg80", append([]byte{0, 0x80, 0, 8}, "  disk-1"...))
	page("vpd_pg83", []byte{
		0, 0x83, 0, 8 + 12,
		2, 1, 0, 4, 'A', 'T', 'A', ' ', // T10 vendor name, not used
		1, 3, 0, 8, 0x50, 0, 0xc5, 0, 1, 2, 3, 4,
	})
	got := Read(filepath.Join(root, "sda"))
	want := Identity{Serial: "disk-1", Unique: "wwn:5000c50001020304", Model: "ATA QEMU HARDDISK", Firmware: "2.5+", Size: 4096}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A serial comes from the device: what could end a line or forge a field does not get through.
func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                    "",
		" WD-1234 ":           "WD-1234",
		"a\x00b":              "a_b",
		"evil\nserial:other":  "evil_serial:other",
		"\x1b[2Jclear":        "[2Jclear",
		"caf\xc3\xa9 \xff 12": "caf_12",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestLongNames: a name goes into the ledger, whose texts end at 255 bytes, and into requests; a disk that gives a longer
// one gets one that is as long as both take, and still its own.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("S", 250)
	page := func(end string) []byte {
		text := long + end
		return append([]byte{0, 0x80, byte(len(text) >> 8), byte(len(text))}, text...)
	}
	a, b := unitSerial(page("A")), unitSerial(page("B"))
	if a == b || len(a) > 128 || !strings.HasPrefix(a, "SSS") {
		t.Errorf("%q, %q", a, b)
	}
	if usb := clean(strings.Repeat("U", 126)); len(usb) != 126 { // what USB has room for
		t.Errorf("%q", usb)
	}
	naa := append([]byte{0, 0x83, 0, 204, 0, 3, 0, 200}, make([]byte, 200)...)
	if name := deviceNAA(naa); len(name) > 128 || name == "" {
		t.Errorf("%q", name)
	}
}

func FuzzVPD(f *testing.F) {
	f.Add([]byte{0, 0x80, 0, 3, 'a', 'b', 'c'})
	f.Add([]byte{0, 0x83, 0, 12, 1, 3, 0, 8, 0x50, 0, 0xc5, 0, 1, 2, 3, 4})
	f.Add([]byte{0, 0x83, 0xff, 0xff, 1, 3, 0, 0xff})
	f.Fuzz(func(t *testing.T, page []byte) {
		if s := unitSerial(page); s != clean(s) {
			t.Errorf("serial %q", s)
		}
		deviceNAA(page)
	})
}
