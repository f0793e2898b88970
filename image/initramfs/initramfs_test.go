package initramfs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/ratchetos/ratchet/boot"
	"github.com/ratchetos/ratchet/image/kernel"
)

func records(t testing.TB, archive []byte) []cpio.Record {
	t.Helper()
	recs, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		t.Fatal(err)
	}
	return recs
}

func system(t testing.TB) []byte {
	t.Helper()
	policy, err := PolicyJSON(boot.Policy{Version: "v1", Flavour: "cloud", TPM: "required", Development: true})
	if err != nil {
		t.Fatal(err)
	}
	b, err := System(SystemFiles{Init: []byte("#!init"), Policy: policy, CA: []byte("PEM")})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// closure makes two module files and one built-in.
func closure(t testing.TB) kernel.Closure {
	t.Helper()
	dir := t.TempDir()
	mod := func(name string, deps ...string) kernel.Module {
		path := filepath.Join(dir, name+".ko")
		if err := os.WriteFile(path, []byte(name+" with ~Module signature appended~"), 0o644); err != nil {
			t.Fatal(err)
		}
		return kernel.Module{Name: name, Path: "/lib/modules/9.9/kernel/fs/" + name + ".ko", File: path, Deps: deps}
	}
	return kernel.Closure{Modules: []kernel.Module{mod("jbd2"), mod("ext4", "jbd2"), {Name: "virtio", Builtin: true}}}
}

// TestParentsComeFirst holds each archive to what the kernel needs: a file whose folder it has
// not seen is dropped without a word.
func TestParentsComeFirst(t *testing.T) {
	modules, err := Modules(closure(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, archive := range map[string][]byte{"system": system(t), "modules": modules} {
		seen := map[string]bool{".": true}
		for _, r := range records(t, archive) {
			if parent := filepath.Dir(r.Name); !seen[parent] {
				t.Errorf("%s: %s stands before its folder %s", name, r.Name, parent)
			}
			if seen[r.Name] && r.Name != "." {
				t.Errorf("%s: %s is there twice", name, r.Name)
			}
			if r.MTime != 0 || r.UID != 0 || r.GID != 0 {
				t.Errorf("%s: %s carries time or owner", name, r.Name)
			}
			if r.Mode&cpio.S_IFMT == cpio.S_IFDIR {
				seen[r.Name] = true
			}
		}
	}
}

func TestModes(t *testing.T) {
	want := map[string]uint64{
		"init":        cpio.S_IFREG | 0o755,
		PolicyPath:    cpio.S_IFREG | 0o600,
		"dev/console": cpio.S_IFCHR | 0o600,
		"tmp":         cpio.S_IFDIR | 0o1777,
	}
	for _, r := range records(t, system(t)) {
		if mode, ok := want[r.Name]; ok && r.Mode != mode {
			t.Errorf("%s has mode %o, want %o", r.Name, r.Mode, mode)
		}
		delete(want, r.Name)
	}
	if len(want) > 0 {
		t.Errorf("not in the archive: %v", want)
	}
}

func TestModulesAreWhole(t *testing.T) {
	archive, err := Modules(closure(t))
	if err != nil {
		t.Fatal(err)
	}
	frame, err := Cache{}.Compress(archive, 1)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := ReadFile(frame, "lib/modules/9.9/kernel/fs/ext4.ko.zst")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Archives(packed)
	if err != nil || len(got) != 1 || string(got[0]) != "ext4 with ~Module signature appended~" {
		t.Errorf("ext4.ko: %q %v", got, err)
	}
	list, err := ReadFile(frame, ClosurePath)
	want := "jbd2 /lib/modules/9.9/kernel/fs/jbd2.ko.zst\next4 /lib/modules/9.9/kernel/fs/ext4.ko.zst jbd2\nvirtio builtin\n"
	if err != nil || string(list) != want {
		t.Errorf("closure: %q %v", list, err)
	}
}

func TestConcatenated(t *testing.T) {
	first, err := archive([]cpio.Record{file(PolicyPath, []byte(`{"version":"old"}`), 0o600), file("only/first", []byte("1"), 0o644)})
	if err != nil {
		t.Fatal(err)
	}
	var initrd []byte
	for _, a := range [][]byte{first, system(t)} {
		frame, err := Cache{}.Compress(a, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(frame)%4 != 0 {
			t.Errorf("frame of %d bytes: the next archive would not be aligned", len(frame))
		}
		initrd = append(initrd, frame...)
	}
	p, err := ReadPolicy(initrd)
	if err != nil || p.Version != "v1" || !p.Development {
		t.Errorf("policy %+v, %v: the later archive must win", p, err)
	}
	if b, err := ReadFile(initrd, "only/first"); err != nil || string(b) != "1" {
		t.Errorf("file of the first archive: %q %v", b, err)
	}
	if _, err := ReadFile(initrd, "nowhere"); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := ReadPolicy(initrd[:len(initrd)/2]); err == nil {
		t.Error("half an initramfs was read")
	}
}

// TestWindow keeps every level within what the kernel's decompressor allocates.
func TestWindow(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef\n"), 1<<20)
	for level := Level(1); level <= maxLevel; level++ {
		frame, err := Cache{}.Compress(big, level)
		if err != nil {
			t.Fatal(err)
		}
		var h zstd.Header
		if err := h.Decode(frame); err != nil || h.WindowSize > maxWindow {
			t.Errorf("level %d: window %d (%v)", level, h.WindowSize, err)
		}
		if !h.HasCheckSum {
			t.Errorf("level %d: no checksum", level)
		}
	}
	if _, err := (Cache{}).Compress(big, 9); err == nil {
		t.Error("level 9 was accepted")
	}
}

func TestCache(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	data := bytes.Repeat([]byte("content "), 1000)
	one, err := c.Compress(data, 2)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := filepath.Glob(filepath.Join(c.Dir, "*.zst"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("entries %v %v", entries, err)
	}
	// A damaged entry, even one that is a good frame of something else, is not used.
	other, err := Cache{}.Compress([]byte("something else"), 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{[]byte("garbage"), other, one[:len(one)/2]} {
		if err := os.WriteFile(entries[0], bad, 0o644); err != nil {
			t.Fatal(err)
		}
		two, err := c.Compress(data, 2)
		if err != nil || !bytes.Equal(one, two) {
			t.Errorf("damaged entry was used (%v)", err)
		}
	}
	for i := range 2 * cacheKeep {
		if _, err := c.Compress([]byte{byte(i)}, 1); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err = filepath.Glob(filepath.Join(c.Dir, "*")); err != nil || len(entries) != cacheKeep {
		t.Errorf("cache holds %d entries, want %d (%v)", len(entries), cacheKeep, err)
	}
}

func FuzzReadFile(f *testing.F) {
	frame, err := Cache{}.Compress(system(f), 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame)
	f.Add([]byte{0, 0, 0, 0})
	f.Add(slices.Concat([]byte{0x28, 0xb5, 0x2f, 0xfd}, []byte(strings.Repeat("x", 20))))
	f.Fuzz(func(t *testing.T, initrd []byte) {
		_, _ = ReadPolicy(initrd)
	})
}
