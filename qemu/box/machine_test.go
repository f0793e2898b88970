package box

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestCloneTakesHalvesApart(t *testing.T) {
	dir := t.TempDir()
	young, old, victim := filepath.Join(dir, "young"), filepath.Join(dir, "old"), filepath.Join(dir, "victim")
	for _, m := range []string{young, old} {
		name := filepath.Base(m)
		put(t, filepath.Join(m, diskFile), name)
		put(t, filepath.Join(m, tpmDir, "state"), name)
		put(t, filepath.Join(m, clientDir, "key"), name)
	}
	put(t, filepath.Join(young, tpmDir, "extra"), "young")
	check := func(disk, tpm string) {
		t.Helper()
		if d, s := get(t, filepath.Join(victim, diskFile)), get(t, filepath.Join(victim, tpmDir, "state")); d != disk || s != tpm {
			t.Fatalf("disk %q, TPM %q; want %q, %q", d, s, disk, tpm)
		}
	}
	for _, err := range []error{Clone(victim, old), CloneDisk(victim, young)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	check("young", "old")
	for _, err := range []error{CloneTPM(victim, young), CloneTPM(victim, old), CloneDisk(victim, old)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	check("old", "old")
	if _, err := os.Stat(filepath.Join(victim, tpmDir, "extra")); err == nil {
		t.Error("state of the TPM that was there before is left")
	}
	if err := CloneTPM(victim, filepath.Join(dir, "never ran")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(victim, tpmDir)); !os.IsNotExist(err) {
		t.Error("a machine that never ran gave its TPM")
	}
}

func TestCopySparseKeepsHoles(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	if err := Sparse(from, 64<<20); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(from, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("in the middle"), 40<<20); err != nil {
		t.Fatal(err)
	}
	if err := copySparse(to, from); err != nil {
		t.Fatal(err)
	}
	if get(t, to) != get(t, from) {
		t.Error("the copy differs")
	}
	var st unix.Stat_t
	if err := unix.Stat(to, &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("the copy takes %d bytes on disk (%v)", st.Blocks*512, err)
	}
}
