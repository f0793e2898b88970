package powercut

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const sectors = 64

func newDisk(t *testing.T) (*Disk, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, sectors*sectorSize), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

// fill writes one byte value over the whole disk.
func fill(t *testing.T, d *Disk, value byte) {
	t.Helper()
	if err := d.writeAt(bytes.Repeat([]byte{value}, sectors*sectorSize), 0); err != nil {
		t.Fatal(err)
	}
}

// survivors counts the sectors by value; a sector with two values fails the test.
func survivors(t *testing.T, path string) (counts [4]int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range sectors {
		s := b[n*sectorSize:][:sectorSize]
		if !bytes.Equal(s, bytes.Repeat(s[:1], sectorSize)) {
			t.Fatalf("sector %d is torn inside", n)
		}
		counts[s[0]]++
	}
	return counts
}

func TestCutKeepsWhatWasFlushed(t *testing.T) {
	for seed := range uint64(20) {
		d, path := newDisk(t)
		fill(t, d, 1)
		if err := d.flush(); err != nil {
			t.Fatal(err)
		}
		fill(t, d, 2)
		fill(t, d, 3)
		loss, err := d.Cut(seed)
		if err != nil {
			t.Fatal(err)
		}
		c := survivors(t, path)
		if c[0] != 0 || c[1] != loss.Dropped || c[2] != loss.Reordered || c[1]+c[2]+c[3] != sectors || loss.Unflushed != sectors {
			t.Fatalf("seed %d: %v with %+v", seed, c, loss)
		}
		if c[1] == 0 || c[2] == 0 || c[3] == 0 {
			t.Errorf("seed %d: one kind of survivor is missing: %v", seed, c)
		}
	}
}

func TestCutDependsOnTheSeedOnly(t *testing.T) {
	cut := func(seed uint64) string {
		d, path := newDisk(t)
		fill(t, d, 1)
		fill(t, d, 2)
		if _, err := d.Cut(seed); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	seven := cut(7)
	if again := cut(7); again != seven {
		t.Error("one seed, two outcomes")
	}
	if seven == cut(8) {
		t.Error("two seeds, one outcome")
	}
}

func TestReadsSeeTheNewestVersion(t *testing.T) {
	d, path := newDisk(t)
	fill(t, d, 1)
	if err := d.writeAt(bytes.Repeat([]byte{2}, sectorSize), 3*sectorSize); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, sectors*sectorSize)
	if err := d.readAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if got[0] != 1 || got[3*sectorSize] != 2 || got[4*sectorSize] != 1 {
		t.Errorf("read %d %d %d, want 1 2 1", got[0], got[3*sectorSize], got[4*sectorSize])
	}
	if c := survivors(t, path); c[0] != sectors {
		t.Errorf("the file has what was never flushed: %v", c)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if c := survivors(t, path); c[1] != sectors-1 || c[2] != 1 {
		t.Errorf("after an orderly end: %v", c)
	}
	if err := d.readAt(got, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read after the end: %v", err)
	}
}

// TestServe: qemu-io is QEMU's own block layer, with its NBD client.
func TestServe(t *testing.T) {
	d, path := newDisk(t)
	s, err := d.Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	io := func(commands ...string) {
		t.Helper()
		args := []string{"-f", "raw"}
		for _, c := range commands {
			args = append(args, "-c", c)
		}
		out, err := exec.CommandContext(t.Context(), "qemu-io", append(args, s.Filename)...).CombinedOutput()
		if err != nil || bytes.Contains(out, []byte("failed")) {
			t.Fatalf("qemu-io: %v\n%s", err, out)
		}
	}
	io("write -P 1 0 16k", "flush", "write -z 0 4k", "flush")
	io("read -P 0 0 4k", "read -P 1 4k 12k")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Cut(1); err != nil {
		t.Fatal(err)
	}
	if c := survivors(t, path); c[1] != 24 || c[0] != sectors-24 {
		t.Errorf("%v", c)
	}
}
