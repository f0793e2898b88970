package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// object is the smallest ELF file with a .modinfo section.
func object(t testing.TB, modinfo ...string) []byte {
	t.Helper()
	info := []byte(strings.Join(modinfo, "\x00") + "\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	hdr := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Shoff: 64, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2,
	}
	data := uint64(64 + 3*64)
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: data, Size: uint64(len(info)), Addralign: 1},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: data + uint64(len(info)), Size: uint64(len(names)), Addralign: 1},
	}
	var b bytes.Buffer
	for _, v := range []any{hdr, sections, info, names} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// packageTree is a kernel package small enough to read in a test.
func packageTree(t testing.TB) map[string][]byte {
	mod := "./lib/modules/9.9-test/kernel/"
	return map[string][]byte{
		"./boot/vmlinuz-9.9-test":                    []byte("kernel"),
		"./boot/config-9.9-test":                     []byte("CONFIG_X=y\n"),
		"./lib/modules/9.9-test/modules.builtin":     []byte("kernel/lib/crc16.ko\nkernel/drivers/tty/virtio_console.ko\n"),
		mod + "fs/ext4/ext4.ko":                      object(t, "name=ext4", "depends=jbd2,mbcache", "softdep=pre: crc32c post: later"),
		mod + "fs/jbd2/jbd2.ko":                      object(t, "name=jbd2", "depends="),
		mod + "fs/mbcache.ko":                        object(t, "name=mbcache", "depends="),
		mod + "crypto/crc32c_generic.ko":             object(t, "name=crc32c_generic", "alias=crc32c", "alias=crypto-crc32c"),
		mod + "arch/x86/crypto/crc32c-intel.ko":      object(t, "name=crc32c_intel", "alias=crc32c"),
		mod + "drivers/usb/storage/usb-storage.ko":   object(t, "name=usb_storage", "depends=", "alias=usb:v0001p0002"),
		mod + "drivers/gpu/drm/drm.ko":               object(t, "name=drm"),
		mod + "drivers/broken/broken.ko":             object(t, "name=broken", "depends=absent"),
		mod + "drivers/ring/a.ko":                    object(t, "name=ring_a", "depends=ring_b"),
		mod + "drivers/ring/b.ko":                    object(t, "name=ring_b", "depends=ring_a"),
		"./lib/modules/9.9-test/../../../etc/passwd": []byte("outside"),
	}
}

func tarball(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if err := w.WriteHeader(&tar.Header{Name: n, Mode: 0o644, Size: int64(len(files[n])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(files[n]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// debFile makes a real package with dpkg-deb and returns its path and digest.
func debFile(t testing.TB) (path, sum string) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range packageTree(t) {
		if strings.Contains(name, "..") {
			continue
		}
		p := filepath.Join(dir, "tree", name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	control := "Package: linux-image-9.9-test\nVersion: 9.9-1\nArchitecture: amd64\nMaintainer: T <t@example.org>\nDescription: test\n"
	if err := os.MkdirAll(filepath.Join(dir, "tree/DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tree/DEBIAN/control"), []byte(control), 0o644); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "k.deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-b", filepath.Join(dir, "tree"), path).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(data)
	return path, hex.EncodeToString(h[:])
}

// fakeApt puts an apt-get and an apt-cache in front of PATH. The mirror holds version 9.9-1
// only; the meta package points to it.
func fakeApt(t *testing.T, deb, sum string) {
	t.Helper()
	bin := t.TempDir()
	scripts := map[string]string{
		"apt-get": "#!/bin/sh\nfor a; do last=$a; done\ncase $last in *=9.9-1) cp " + deb + " .;; *) echo 'E: Version not found' >&2; exit 100;; esac\n",
		"apt-cache": "#!/bin/sh\nfor a; do last=$a; done\ncase $last in\nmeta) echo 'Package: meta'; echo 'Depends: linux-image-9.9-test (= 9.9-1)';;\n" +
			"*) echo 'Package: x'; echo 'Version: 9.9-1'; echo 'SHA256: " + sum + "';;\nesac\n",
	}
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func TestFetch(t *testing.T) {
	deb, sum := debFile(t)
	fakeApt(t, deb, sum)
	for _, c := range []struct {
		name         string
		pin          Pin
		locked       bool
		errorPartial string
	}{
		{name: "locked", pin: Pin{"linux-image-9.9-test", "9.9-1", sum, "meta"}, locked: true},
		{name: "gone from the mirror", pin: Pin{"linux-image-9.8-test", "9.8-1", sum, "meta"}},
		{name: "other bytes", pin: Pin{"linux-image-9.9-test", "9.9-1", strings.Repeat("0", 64), "meta"}, errorPartial: "serves other bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			o := Options{Lock: &Lock{Flavours: map[string]Pin{"test": c.pin}}, Cache: t.TempDir()}
			k, err := o.Fetch(ctx, "test")
			if c.errorPartial != "" {
				if err == nil || !strings.Contains(err.Error(), c.errorPartial) {
					t.Fatalf("error %v, want one with %q", err, c.errorPartial)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if k.Locked != c.locked || (k.Warning == "") != c.locked {
				t.Errorf("locked %v warning %q", k.Locked, k.Warning)
			}
			if k.Release != "9.9-test" || k.Version != "9.9-1" || k.Flavour != "test" {
				t.Errorf("got %+v", k)
			}
			if b, err := os.ReadFile(k.Vmlinuz); err != nil || string(b) != "kernel" {
				t.Errorf("vmlinuz %q %v", b, err)
			}
			// The second fetch must not need the network.
			if c.locked {
				t.Setenv("PATH", "/nonexistent")
				if _, err := o.Fetch(ctx, "test"); err != nil {
					t.Errorf("fetch from the cache: %v", err)
				}
			}
			left, err := os.ReadDir(o.Cache)
			if err != nil || len(left) != 2 {
				t.Errorf("cache holds %v, want the kernel and the lock (%v)", left, err)
			}
		})
	}
}

func TestClosure(t *testing.T) {
	ix, err := unpackTar(bytes.NewReader(tarball(t, packageTree(t))), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		names   []string
		want    string // names in order
		missing string
		err     string
	}{
		{names: []string{"ext4"}, want: "jbd2 mbcache crc32c_generic ext4"},
		{names: []string{"usb-storage", "virtio-console"}, want: "usb_storage virtio_console"},
		{names: []string{"ext4", "jbd2"}, want: "jbd2 mbcache crc32c_generic ext4"},
		{names: []string{"nothere", "drm"}, missing: "nothere drm"},
		{names: []string{"broken"}, err: "needs absent"},
		{names: []string{"ring_a"}, err: "depends on itself"},
	} {
		t.Run(strings.Join(c.names, ","), func(t *testing.T) {
			dir := t.TempDir()
			k := &Kernel{Dir: dir, Modules: dir, Release: "9.9-test"}
			writeIndex(t, dir, ix)
			got, err := k.Closure(c.names)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, m := range got.Modules {
				names = append(names, m.Name)
			}
			if s := strings.Join(names, " "); s != c.want {
				t.Errorf("closure %q, want %q", s, c.want)
			}
			if s := strings.Join(got.Missing, " "); s != c.missing {
				t.Errorf("missing %q, want %q", s, c.missing)
			}
		})
	}
}

func TestClosureText(t *testing.T) {
	c := Closure{Modules: []Module{
		{Name: "virtio_pci", Builtin: true},
		{Name: "jbd2", Path: "/lib/modules/r/kernel/fs/jbd2.ko"},
		{Name: "ext4", Path: "/lib/modules/r/kernel/fs/ext4.ko", Deps: []string{"jbd2", "crc32c_generic"}},
	}}
	want := "virtio_pci builtin\njbd2 /lib/modules/r/kernel/fs/jbd2.ko\next4 /lib/modules/r/kernel/fs/ext4.ko jbd2,crc32c_generic\n"
	if got := c.Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestUnpackStaysInside(t *testing.T) {
	dir := t.TempDir()
	if _, err := unpackTar(bytes.NewReader(tarball(t, packageTree(t))), filepath.Join(dir, "in")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "etc")); !os.IsNotExist(err) {
		t.Errorf("a name with .. left the folder: %v", err)
	}
}

func TestParseLock(t *testing.T) {
	if _, err := Committed(); err != nil {
		t.Errorf("the committed lock: %v", err)
	}
	for name, text := range map[string]string{
		"unknown key": "flavours: {a: {package: p, version: 1, sha256: " + strings.Repeat("0", 64) + ", meta: m, colour: red}}",
		"bad digest":  "flavours: {a: {package: p, version: 1, sha256: abc, meta: m}}",
		"empty":       "{}",
		"no version":  "flavours: {a: {package: p, sha256: " + strings.Repeat("0", 64) + ", meta: m}}",
	} {
		if _, err := ParseLock([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	l, err := Committed()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Pin("tiny"); err == nil || !strings.Contains(err.Error(), "cloud, full") {
		t.Errorf("unknown flavour: %v", err)
	}
}

func writeIndex(t *testing.T, dir string, ix *index) {
	t.Helper()
	b, err := marshalIndex(ix)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, indexFile), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseModule(f *testing.F) {
	f.Add(object(f, "name=ext4", "depends=jbd2,mbcache", "softdep=pre: crc32c post: later"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseModule(data)
		if err == nil && m.Name == "" {
			t.Error("a module without a name was accepted")
		}
	})
}
