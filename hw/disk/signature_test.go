package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const imageSize = 48 << 20

// image is a sparse file of imageSize bytes that a test can put content on.
func image(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(imageSize); err != nil {
		t.Fatal(err)
	}
	return f
}

// tool makes content with the program that really makes it.
func tool(command ...string) func(*testing.T, *os.File) {
	return func(t *testing.T, f *os.File) {
		t.Helper()
		cmd := exec.Command(command[0], append(command[1:], f.Name())...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
		}
	}
}

// bytesAt makes content whose tool cannot run here out of its format's own numbers.
func bytesAt(offset int64, data string) func(*testing.T, *os.File) {
	return func(t *testing.T, f *os.File) {
		t.Helper()
		if _, err := f.WriteAt([]byte(data), offset); err != nil {
			t.Fatal(err)
		}
	}
}

func then(steps ...func(*testing.T, *os.File)) func(*testing.T, *os.File) {
	return func(t *testing.T, f *os.File) {
		t.Helper()
		for _, step := range steps {
			step(t, f)
		}
	}
}

const mdMagic = "\xfc\x4e\x2b\xa9"

// An MBR with one Linux partition at 1 MiB, as fdisk writes it.
func mbr() string {
	sector := make([]byte, 512)
	entry := sector[446:]
	entry[4] = 0x83
	binary.LittleEndian.PutUint32(entry[8:], 2048)
	binary.LittleEndian.PutUint32(entry[12:], 8192)
	sector[510], sector[511] = 0x55, 0xaa
	return string(sector)
}

var contents = []struct {
	name string
	make func(*testing.T, *os.File)
	want string
}{
	{"blank", then(), ""},
	{"ext4", tool("mkfs.ext4", "-q", "-F"), "ext2/3/4"},
	{"ext2", tool("mkfs.ext4", "-q", "-F", "-t", "ext2"), "ext2/3/4"},
	{"fat16", tool("mkfs.vfat", "-F", "16"), "FAT"},
	{"fat32", tool("mkfs.vfat", "-F", "32"), "FAT"},
	{"swap", tool("mkswap", "-q"), "swap"},
	{"swap with 64 KiB pages", bytesAt(64<<10-10, "SWAPSPACE2"), "swap"},
	{"gpt", tool("sgdisk", "-n", "1:0:0"), "GPT partition table"},
	{"gpt, backup only", then(tool("sgdisk", "-n", "1:0:0"), bytesAt(0, string(make([]byte, 1<<20)))), "GPT partition table"},
	{"gpt with 4 KiB sectors", bytesAt(4096, "EFI PART"), "GPT partition table"},
	{"mbr", bytesAt(0, mbr()), "MBR partition table"},
	{"boot sector without partitions", bytesAt(510, "\x55\xaa"), ""},
	{"xfs", bytesAt(0, "XFSB\x00\x00\x10\x00"), "XFS"},
	{"btrfs", bytesAt(64<<10+64, "_BHRfS_M"), "btrfs"},
	{"ntfs", bytesAt(3, "NTFS    "), "NTFS"},
	{"exfat", bytesAt(3, "EXFAT   "), "exFAT"},
	{"luks1", bytesAt(0, "LUKS\xba\xbe\x00\x01"), "LUKS"},
	{"luks2", bytesAt(0, "LUKS\xba\xbe\x00\x02"), "LUKS"},
	{"luks2, secondary only", bytesAt(16<<10, "SKUL\xba\xbe\x00\x02"), "LUKS"},
	{"luks2, largest header", bytesAt(4<<20, "SKUL\xba\xbe\x00\x02"), "LUKS"},
	{"lvm", bytesAt(512, "LABELONE\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00LVM2 001"), "LVM2 physical volume"},
	{"md 1.1", bytesAt(0, mdMagic), "md RAID member"},
	{"md 1.2", bytesAt(4096, mdMagic), "md RAID member"},
	{"md 1.0", bytesAt(imageSize-8<<10, mdMagic), "md RAID member"},
	{"md 0.90", bytesAt(imageSize-64<<10, mdMagic), "md RAID member"},
	{"md 0.90 big endian", bytesAt(imageSize-64<<10, "\xa9\x2b\x4e\xfc"), "md RAID member"},
	{"md under ext4", then(tool("mkfs.ext4", "-q", "-F"), bytesAt(imageSize-8<<10, mdMagic)), "md RAID member"},
	{"zfs", bytesAt(128<<10, "\x0c\xb1\xba\x00\x00\x00\x00\x00"), "ZFS"},
	{"zfs, last label only", bytesAt(imageSize-128<<10+5<<10, "\x0c\xb1\xba\x00\x00\x00\x00\x00"), "ZFS"},
	{"bcache", bytesAt(4096+24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"), "bcache"},
	{"iso9660", bytesAt(32769, "CD001"), "ISO 9660"},
	{"our log", bytesAt(0, "RATCHETL"), ""},
	{"our log, then mkfs over it", then(bytesAt(0, "RATCHETL"), tool("mkfs.vfat", "-F", "32")), "FAT"},
}

func TestSignature(t *testing.T) {
	for _, tt := range contents {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // sgdisk sleeps a second
			f := image(t)
			tt.make(t, f)
			kind, err := Signature(f, imageSize, []byte("RATCHETL"))
			if err != nil || kind != tt.want {
				t.Errorf("got %q, %v, want %q", kind, err, tt.want)
			}
		})
	}
}

func TestClaim(t *testing.T) {
	for _, tt := range contents {
		if tt.want == "" {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // sgdisk sleeps a second
			f := image(t)
			tt.make(t, f)

			err := Claim(readOnly{f, t}, imageSize, false)
			var foreign *ForeignError
			if !errors.As(err, &foreign) || foreign.Kind != tt.want || !errors.Is(err, ErrForeign) {
				t.Fatalf("claim without erase: %v", err)
			}
			if err := Claim(f, imageSize, true); err != nil {
				t.Fatalf("claim with erase: %v", err)
			}
			head := make([]byte, edge)
			if _, err := f.ReadAt(head, 0); err != nil || len(bytes.TrimLeft(head, "\x00")) > 0 {
				t.Errorf("after erase the disk does not begin with zeros, %v", err)
			}
		})
	}
}

// TestEraseWithoutSignature: what is no signature here, such as the label of an owner's own volumes, is erased as well when
// somebody says so. It stands in nobody's way otherwise.
func TestEraseWithoutSignature(t *testing.T) {
	for name, at := range map[string]int64{"our label": 0, "in front": 1<<20 - 8, "at the end": imageSize - 8, "a first block behind the label": 1 << 20} {
		f := image(t)
		bytesAt(at, "RATCHDSK")(t, f)
		if err := Claim(readOnly{f, t}, imageSize, false); err != nil {
			t.Errorf("%s: claim without erase: %v", name, err)
		}
		if err := Claim(f, imageSize, true); err != nil {
			t.Errorf("%s: claim with erase: %v", name, err)
		}
		left := make([]byte, 8)
		if _, err := f.ReadAt(left, at); err != nil || !bytes.Equal(left, make([]byte, 8)) {
			t.Errorf("%s: after erase there is %q, %v", name, left, err)
		}
	}
}

// readOnly fails the test when it is written to.
type readOnly struct {
	*os.File
	t *testing.T
}

func (r readOnly) WriteAt(p []byte, off int64) (int, error) {
	r.t.Errorf("claim without erase wrote %d bytes at %d", len(p), off)
	return len(p), nil
}

// A disk that cannot be read is not a free disk.
func TestSignatureReportsReadErrors(t *testing.T) {
	if kind, err := Signature(broken{}, imageSize); err == nil {
		t.Errorf("got %q and no error", kind)
	}
	if err := Claim(broken{}, imageSize, true); err == nil {
		t.Error("claimed a disk that cannot be read")
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error)  { return 0, errors.New("medium error") }
func (broken) WriteAt([]byte, int64) (int, error) { return 0, errors.New("medium error") }
func (broken) Sync() error                        { return nil }

// Sizes below, at and around every offset that is looked at.
func TestSignatureOfSmallDisks(t *testing.T) {
	for _, size := range []int64{0, 1, 511, 512, 4095, 4096, 8 << 10, 64<<10 - 1, 64 << 10, 128 << 10, 256 << 10, 1 << 20} {
		if kind, err := Signature(bytes.NewReader(make([]byte, size)), size); kind != "" || err != nil {
			t.Errorf("%d bytes of zeros: %q, %v", size, kind, err)
		}
	}
}

func FuzzSignature(f *testing.F) {
	f.Add([]byte("XFSB"), uint32(0), uint32(1<<20))
	f.Add([]byte(mdMagic), uint32(4096), uint32(128<<10))
	f.Add([]byte(mbr()), uint32(0), uint32(512))
	f.Add([]byte("EFI PART"), uint32(512), uint32(1024))
	f.Fuzz(func(t *testing.T, data []byte, offset, size uint32) {
		disk := make([]byte, size%(2<<20))
		if int(offset) < len(disk) {
			copy(disk[offset:], data)
		}
		kind, err := Signature(bytes.NewReader(disk), int64(len(disk)))
		if err != nil {
			t.Fatalf("memory cannot fail: %v", err)
		}
		if kind != "" && len(bytes.Trim(disk, "\x00")) == 0 {
			t.Fatalf("%q on a disk of zeros", kind)
		}
	})
}

// Opening for handing out is exclusive: a second owner is refused with words.
func TestOpenIsExclusive(t *testing.T) {
	f := image(t)
	out, err := exec.Command("losetup", "--find", "--show", f.Name()).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	node := strings.TrimSpace(string(out))
	tool("mkswap", "-q")(t, f)
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", node).Run() })

	first, err := Open(node)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if second, err := Open(node); err == nil {
		second.Close()
		t.Error("a second exclusive open succeeded")
	} else if !strings.Contains(err.Error(), "in use") {
		t.Error(err)
	}
	// What Claim does to a real device goes past the page cache.
	if err := Claim(first, imageSize, true); err != nil {
		t.Error(err)
	}
}
