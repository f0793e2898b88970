package esp

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/iotest"
)

const mib = 1 << 20

// sparse is a partition that remembers only what is not zero, so that large ones cost nothing.
type sparse struct {
	blocks map[int64][]byte
	writes int
	// fail ends the medium after so many writes; 0 never.
	fail int
	log  []string
}

const block = 4096

func (s *sparse) each(b []byte, at int64, f func(b []byte, n, off int64)) {
	for len(b) > 0 {
		off := at % block
		n := min(int64(len(b)), block-off)
		f(b[:n], at/block, off)
		b, at = b[n:], at+n
	}
}

var errPower = errors.New("the power failed")

func (s *sparse) WriteAt(b []byte, at int64) (int, error) {
	if s.writes++; s.fail > 0 && s.writes > s.fail {
		return 0, errPower
	}
	if s.blocks == nil {
		s.blocks = map[int64][]byte{}
	}
	s.each(b, at, func(b []byte, n, off int64) {
		if s.blocks[n] == nil {
			s.blocks[n] = make([]byte, block)
		}
		copy(s.blocks[n][off:], b)
	})
	s.log = append(s.log, fmt.Sprintf("write %d+%d", at, len(b)))
	return len(b), nil
}

func (s *sparse) ReadAt(b []byte, at int64) (int, error) {
	s.each(b, at, func(b []byte, n, off int64) {
		clear(b)
		if s.blocks[n] != nil {
			copy(b, s.blocks[n][off:])
		}
	})
	return len(b), nil
}

func (s *sparse) Sync() error {
	s.log = append(s.log, "sync")
	return nil
}

func pattern(n int64) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// TestTools has fsck.fat and mtools read what Write makes of awkward sizes, onto a partition full of something else.
func TestTools(t *testing.T) {
	for _, c := range []struct{ size, file int64 }{
		{34 * mib, 1},          // one sector a cluster, the smallest FAT32 there is
		{64 * mib, 512},        // a size that other tools lay out wrongly
		{96 * mib, 1024},       // exactly one cluster
		{96 * mib, 1025},       // and one byte more
		{34 * mib, 33 * mib},   // nearly full
		{140 * mib, 3*mib + 7}, // four sectors a cluster
	} {
		t.Run(fmt.Sprintf("%d-%d", c.size, c.file), func(t *testing.T) {
			dir := t.TempDir()
			path, out := filepath.Join(dir, "esp"), filepath.Join(dir, "out")
			if err := os.WriteFile(path, bytes.Repeat([]byte{0xa5}, int(c.size)), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			want := pattern(c.file)
			v := Volume{c.size, 2048, "ESP-A"}
			if err := Write(f, v, bytes.NewReader(want), c.file); err != nil {
				t.Fatal(err)
			}
			tool(t, "dosfstools", "fsck.fat", "-n", path)
			tool(t, "mtools", "mcopy", "-i", path, "::/"+BootPath, out)
			if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
				t.Errorf("mcopy read %d bytes, want %d (%v)", len(got), len(want), err)
			}
			if i, err := Read(f, c.size); err != nil || i.Volume != v || i.Length != c.file || i.SHA256 != sha256.Sum256(want) {
				t.Errorf("Read: %+v, %v", i, err)
			}
		})
	}
}

func tool(t *testing.T, pkg, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	// fsck and friends are in sbin, which a user's PATH may lack.
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v (apt install %s)\n%s", name, err, pkg, out)
	}
}

func TestWriteRefuses(t *testing.T) {
	v := Volume{Size: 96 * mib, Label: "ESP-A"}
	for name, c := range map[string]struct {
		v    Volume
		n    int64
		want error
	}{
		"too few clusters": {Volume{Size: 32 * mib, Label: "ESP-A"}, 1, nil},
		"no partition":     {Volume{Label: "ESP-A"}, 1, nil},
		"empty file":       {v, 0, ErrTooLarge},
		"one too many":     {v, v.Capacity() + 1, ErrTooLarge},
		"label":            {Volume{Size: 96 * mib, Label: "a/b"}, 1, nil},
	} {
		var s sparse
		err := Write(&s, c.v, bytes.NewReader(make([]byte, max(c.n, 0))), c.n)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if s.writes > 0 {
			t.Errorf("%s: %d writes", name, s.writes)
		}
	}
	var s sparse
	if err := Write(&s, v, bytes.NewReader(make([]byte, 9)), 10); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short image: %v", err)
	}
	if err := Write(&s, v, bytes.NewReader(make([]byte, v.Capacity())), v.Capacity()); err != nil {
		t.Errorf("full: %v", err)
	}
}

// TestPowerCut ends a rewrite after each of its writes: the slot is the old one, the new one, or foreign.
func TestPowerCut(t *testing.T) {
	v := Volume{Size: 40 * mib, Hidden: 1, Label: "ESP-B"}
	before, after := pattern(2*mib+5), bytes.Repeat([]byte("new"), mib)
	write := func(s *sparse, file []byte) error {
		return Write(s, v, bytes.NewReader(file), int64(len(file)))
	}
	var whole sparse
	if err := write(&whole, after); err != nil {
		t.Fatal(err)
	}
	if first, last := whole.log[0], whole.log[len(whole.log)-1]; first != "write 0+512" || last != "sync" {
		t.Errorf("starts with %q, ends with %q", first, last)
	}
	for cut := 1; cut < whole.writes; cut++ {
		var s sparse
		if err := write(&s, before); err != nil {
			t.Fatal(err)
		}
		s.writes, s.fail = 0, cut
		if err := write(&s, after); !errors.Is(err, errPower) {
			t.Fatalf("cut %d: %v", cut, err)
		}
		if i, err := Read(&s, v.Size); !errors.Is(err, ErrForeign) {
			t.Errorf("cut %d: %+v, %v", cut, i, err)
		}
		s.writes, s.fail = 0, 0
		if err := write(&s, after); err != nil {
			t.Fatal(err)
		}
		if i, err := Read(&s, v.Size); err != nil || i.SHA256 != sha256.Sum256(after) {
			t.Errorf("after cut %d: %v", cut, err)
		}
	}
}

// TestReadIsStrict flips one byte at a time in everything that leads to the file.
func TestReadIsStrict(t *testing.T) {
	v := Volume{Size: 34 * mib, Label: "ESP-A"}
	var s sparse
	file := pattern(3000)
	if err := Write(&s, v, bytes.NewReader(file), int64(len(file))); err != nil {
		t.Fatal(err)
	}
	p, err := v.lay(int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < p.fileAt(); at += 101 {
		if at > (reserved+1)*sector && at < p.cluster(rootCluster)-sector {
			at += 4001 // the FATs, which are all alike
		}
		flip(&s, at)
		i, err := Read(&s, v.Size)
		// The hidden sectors and the letters of the label may be any; they lead to nothing.
		free := at >= 28 && at < 32 || at >= 71 && at < 82
		if !free && !errors.Is(err, ErrForeign) {
			t.Errorf("byte %d: %+v, %v", at, i, err)
		}
		flip(&s, at)
	}
	flip(&s, p.fileAt()+17)
	if i, err := Read(&s, v.Size); err != nil || i.SHA256 == sha256.Sum256(file) {
		t.Errorf("a byte of the file: %+v, %v", i, err)
	}
}

func flip(s *sparse, at int64) {
	b := make([]byte, 1)
	s.ReadAt(b, at)
	b[0] ^= 0x40
	s.WriteAt(b, at)
}

// FuzzRead changes bytes of a slot: Read never panics, never reads outside, and accepts only what Write would make.
func FuzzRead(f *testing.F) {
	const size = 34 * mib
	f.Add(int64(size), int64(0), []byte{0xeb})
	f.Add(int64(size), int64(28), []byte{1, 2, 3, 4})
	f.Add(int64(size), int64(71), []byte("ESP-B      "))
	f.Add(int64(size), int64(reserved*sector), []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(int64(1<<62), int64(1), []byte{0})
	f.Fuzz(func(t *testing.T, size, at int64, change []byte) {
		if at < 0 || at > 34*mib || len(change) > block {
			return
		}
		var s sparse
		v := Volume{Size: 34 * mib, Label: "ESP-A"}
		if err := Write(&s, v, bytes.NewReader(pattern(2000)), 2000); err != nil {
			t.Fatal(err)
		}
		s.WriteAt(change, at)
		i, err := Read(&s, size)
		if err != nil {
			return
		}
		var again sparse
		file, _, err := Find(&s, size)
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(&again, i.Volume, file, i.Length); err != nil {
			t.Fatalf("accepted %+v, which cannot be written: %v", i, err)
		}
		if j, err := Read(&again, size); err != nil || i != j {
			t.Errorf("read %+v, written again %+v (%v)", i, j, err)
		}
	})
}

// TestSame: every difference is seen, wherever it is, and nothing is left running.
func TestSame(t *testing.T) {
	want := pattern(3*chunk + 100)
	for _, at := range []int{0, chunk - 1, chunk, 3*chunk + 99} {
		got := bytes.Clone(want)
		got[at] ^= 1
		if err := Same(bytes.NewReader(got), bytes.NewReader(want)); !errors.Is(err, ErrDiffers) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	for name, c := range map[string]struct {
		slot, want []byte
		err        error
	}{
		"same":         {want, want, nil},
		"empty":        {nil, nil, nil},
		"slot longer":  {append(want, 1), want, ErrDiffers},
		"slot shorter": {want[:2*chunk], want, ErrDiffers},
	} {
		if err := Same(bytes.NewReader(c.slot), bytes.NewReader(c.want)); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := io.MultiReader(bytes.NewReader(want[:chunk]), iotest.ErrReader(errPower))
	if err := Same(broken, bytes.NewReader(want)); !errors.Is(err, errPower) {
		t.Errorf("a medium that fails: %v", err)
	}
	if got, err := Sum(bytes.NewReader(want)); err != nil || got != sha256.Sum256(want) {
		t.Errorf("sum: %v", err)
	}
}
