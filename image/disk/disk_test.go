package disk

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/luks"
)

// pattern is an incompressible, never zero, stand-in for an image.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7+i>>8) | 1
	}
	return b
}

func write1(t testing.TB, path string, o Options) {
	t.Helper()
	if err := Write(path, o); err != nil {
		t.Fatal(err)
	}
}

func TestTwoBuildsAreEqual(t *testing.T) {
	dir := t.TempDir()
	o := Options{Size: MinSize, UKI: pattern(3 << 20), Config: []byte("host: {name: box}\n")}
	var sums []string
	for i := range 2 {
		path := filepath.Join(dir, fmt.Sprintf("%d.img", i))
		// The bubble's clock starts at a date of its own: the builds lie months apart.
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Duration(i) * 100 * 24 * time.Hour)
			write1(t, path, o)
		})
		sums = append(sums, sum(t, path))
	}
	if sums[0] != sums[1] {
		t.Errorf("two builds differ: %s, %s", sums[0], sums[1])
	}
}

// sum hashes the file's data with its place, skipping the holes, which are most of it.
func sum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	for at := int64(0); ; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return fmt.Sprintf("%x", h.Sum(nil))
		}
		if err != nil {
			t.Fatal(err)
		}
		if at, err = unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(h, data, at)
		if _, err := io.Copy(h, io.NewSectionReader(f, data, at-data)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTools lets the tools that operators would use judge each part of the disk.
func TestTools(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.img")
	image := pattern(5<<20 + 17)
	write1(t, path, Options{UKI: image})

	if out := tool(t, "gdisk", "sgdisk", "--verify", path); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk --verify:\n%s", out)
	}
	list := tool(t, "gdisk", "sgdisk", "--print", path)
	parts, err := Layout(DefaultSize)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if !strings.Contains(list, p.Name) {
			t.Errorf("no partition %s in\n%s", p.Name, list)
		}
		if p.Name == Data {
			continue
		}
		part := filepath.Join(dir, p.Name)
		cut(t, path, part, p)
		switch p.Name {
		case ESPA, ESPB:
			tool(t, "dosfstools", "fsck.fat", "-n", part)
			tool(t, "mtools", "mdir", "-i", part, "::/EFI/BOOT/BOOTX64.EFI")
			out := filepath.Join(dir, "out.efi")
			tool(t, "mtools", "mcopy", "-n", "-o", "-i", part, "::/EFI/BOOT/BOOTX64.EFI", out)
			if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, image) {
				t.Errorf("%s: the image reads back different (%v)", p.Name, err)
			}
		case State:
			if b, err := os.ReadFile(part); err != nil || len(bytes.Trim(b, "\x00")) > 0 {
				t.Errorf("STATE is not blank (%v)", err)
			}
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() != DefaultSize {
		t.Errorf("size %v %v", info.Size(), err)
	} else if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 32*mib {
		t.Errorf("the file takes %d MiB on disk, want it sparse", used/mib)
	}
}

// TestStateTemplate puts the template on noise, as on a volume that was just encrypted.
func TestStateTemplate(t *testing.T) {
	template, err := StateTemplate()
	if err != nil {
		t.Fatal(err)
	}
	whole := make([]byte, stateSize-luks.DataOffset)
	rand.NewChaCha8([32]byte{1}).Read(whole)
	copy(whole, template)
	part := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(part, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "e2fsprogs", "e2fsck", "-fn", part)
	if out := tool(t, "e2fsprogs", "dumpe2fs", "-h", part); !strings.Contains(out, "has_journal") {
		t.Errorf("no journal:\n%s", out)
	}
	again, err := StateTemplate()
	if err != nil || !bytes.Equal(again, template) {
		t.Errorf("two templates differ (%v)", err)
	}
}

// cut copies one partition into a file of its own, for tools that know no offsets.
func cut(t *testing.T, from, to string, p Partition) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, p.Size)
	if _, err := f.ReadAt(b, p.Start); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func tool(t *testing.T, pkg, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	// fsck, sgdisk and friends are in sbin, which a user's PATH may lack.
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v (apt install %s)\n%s", name, err, pkg, out)
	}
	return string(out)
}

func TestLayout(t *testing.T) {
	for _, c := range []struct {
		size int64
		ok   bool
	}{{DefaultSize, true}, {MinSize, true}, {MinSize - mib, false}, {DefaultSize + 1, false}, {0, false}, {-1, false}} {
		parts, err := Layout(c.size)
		if (err == nil) != c.ok {
			t.Errorf("size %d: %v", c.size, err)
			continue
		}
		end := int64(mib)
		for _, p := range parts {
			if p.Start != end || p.Size <= 0 {
				t.Errorf("size %d: %s at %d, want %d", c.size, p.Name, p.Start, end)
			}
			end = p.Start + p.Size
		}
		if c.ok && end != c.size-mib {
			t.Errorf("size %d: ends at %d", c.size, end)
		}
	}
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, o := range map[string]Options{
		"no image":        {},
		"image too large": {UKI: make([]byte, 90*mib)},
		"disk too small":  {UKI: []byte("x"), Size: 100 * mib},
	} {
		if err := Write(filepath.Join(dir, "disk.img"), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
