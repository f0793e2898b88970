package boot

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestFATIsFound: what mkfs.fat makes is one, what holds an update as it is, or anything else, is not.
func TestFATIsFound(t *testing.T) {
	dir := t.TempDir()
	blank := func(name string) string {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err == nil {
			err = errors.Join(f.Truncate(40<<20), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, bits := range []string{"16", "32"} {
		path := blank("fat" + bits)
		if out, err := exec.Command("/sbin/mkfs.fat", "-F", bits, path).CombinedOutput(); err != nil {
			t.Fatalf("mkfs.fat (apt install dosfstools): %v %s", err, out)
		}
		if !isFAT(path) {
			t.Errorf("FAT%s is not found", bits)
		}
		if r, err := rawBundle(path); r != nil || err != nil {
			t.Errorf("FAT%s is taken for a bundle: %v %v", bits, r, err)
		}
	}
	if isFAT(blank("zeros")) || isFAT(filepath.Join(dir, "missing")) {
		t.Error("zeros are FAT")
	}
}

// TestBundlesIn: what a Mac leaves beside every file that it copies is no second bundle, and letters may be capitals.
func TestBundlesIn(t *testing.T) {
	for _, name := range []string{"ratchet-1.2.bundle", "RATCHET.BUNDLE"} {
		dir := t.TempDir()
		for _, f := range []string{name, "._" + name, ".Trash-bundle", "notes.txt"} {
			if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if found, err := bundlesIn(dir); err != nil || len(found) != 1 || filepath.Base(found[0]) != name {
			t.Errorf("%s: found %q, %v", name, found, err)
		}
	}
}

// TestRawBundle: the update that lies on a stick ends where its tar does.
func TestRawBundle(t *testing.T) {
	w := &world{t: t}
	w.put(newWorldKey(t), []byte("uki"), nil)
	r, err := rawBundle(w.stick)
	if err != nil || r == nil {
		t.Fatalf("no bundle: %v", err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	whole, err2 := os.ReadFile(w.stick)
	if err != nil || err2 != nil || len(b)%512 != 0 || len(b) >= len(whole) {
		t.Errorf("%d of %d bytes are the bundle (%v, %v)", len(b), len(whole), err, err2)
	}
}
