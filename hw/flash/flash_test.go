package flash

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/image/disk"
)

const mib = 1 << 20

// random is a seeded source of bytes.
func random(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	key[0] = byte(seed)
	return rand.NewChaCha8(key)
}

// image is a factory-new disk image around something that stands in for a UKI.
func image(t *testing.T) string {
	t.Helper()
	uki := make([]byte, 3*mib+777)
	random(1).Read(uki)
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := disk.Write(path, disk.Options{UKI: uki, Size: disk.MinSize}); err != nil {
		t.Fatal(err)
	}
	return path
}

// used is a disk with somebody's data all over it: the start and some of each MiB.
func used(t *testing.T, size int64) Disk {
	t.Helper()
	path := filepath.Join(t.TempDir(), "target")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	noise := make([]byte, min(size, mib))
	random(2).Read(noise)
	for at := int64(0); at < size; at += mib {
		n := min(int64(len(noise)), size-at)
		if at > 0 {
			n = min(n, 64<<10)
		}
		if _, err := f.WriteAt(noise[:n], at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return Disk{Path: path, File: true, Size: size}
}

func compress(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".zst", z.EncodeAll(b, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return path + ".zst"
}

func source(t *testing.T, path string) *Source {
	t.Helper()
	s, err := OpenSource(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, path string, d Disk) {
	t.Helper()
	if err := Write(t.Context(), source(t, path), d, Options{Random: random(3)}); err != nil {
		t.Fatal(err)
	}
}

func TestWrite(t *testing.T) {
	raw := image(t)
	for name, c := range map[string]struct {
		image string
		size  int64
	}{
		"same size": {raw, disk.MinSize}, "bigger disk": {raw, disk.MinSize + 37*mib + 512}, "compressed": {compress(t, raw), disk.MinSize + mib},
	} {
		t.Run(name, func(t *testing.T) {
			d := used(t, c.size)
			write(t, c.image, d)
			check(t, raw, d)
		})
	}
}

// check holds a flashed disk against the image it is of.
func check(t *testing.T, raw string, d Disk) {
	t.Helper()
	want, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	before, err := parseTable(want)
	if err != nil {
		t.Fatal(err)
	}
	after, err := parseTable(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{disk.ESPA, disk.ESPB, disk.Ledger, disk.State} {
		start, end := span(before.partition(name))
		if s, e := span(after.partition(name)); s != start || e != end {
			t.Errorf("%s moved to %d–%d", name, s, e)
		}
		if !bytes.Equal(got[start:end], want[start:end]) {
			t.Errorf("%s differs", name)
		}
		if bytes.Equal(before.partition(name)[16:32], after.partition(name)[16:32]) {
			t.Errorf("%s has the GUID of every other box", name)
		}
	}
	start, end := span(after.partition(disk.Data))
	if rest := d.Size - end; rest < tailSize || rest > 2*grain+tailSize {
		t.Errorf("DATA ends %d bytes before the disk", rest)
	}
	if !zero(got[start:min(end, start+keepHole)]) {
		t.Error("what was on the disk shows at the start of DATA")
	}
	out, err := exec.CommandContext(t.Context(), "sgdisk", "-v", d.Path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No problems found") {
		t.Errorf("sgdisk -v: %v\n%s", err, out)
	}
	lStart, lEnd := span(after.partition(disk.Ledger))
	if _, err := ledger.Open(section{bytes.NewReader(got[lStart:lEnd])}).Load(); err != nil {
		t.Errorf("LEDGER: %v", err)
	}
}

// section is a ledger.Medium that is only read.
type section struct{ io.ReaderAt }

func (section) WriteAt([]byte, int64) (int, error) { return 0, os.ErrPermission }
func (section) Sync() error                        { return os.ErrPermission }

func TestRefusals(t *testing.T) {
	raw := image(t)
	ctx := t.Context()
	small := used(t, mib)
	before, err := os.ReadFile(small.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(ctx, source(t, raw), small, Options{}); err == nil || !strings.Contains(err.Error(), "this one has 1 MiB") {
		t.Errorf("a disk that is too small: %v", err)
	}
	busy := used(t, disk.MinSize)
	busy.InUse = []string{"sda1 is mounted on /"}
	if err := Write(ctx, source(t, raw), busy, Options{}); err == nil || !strings.Contains(err.Error(), "mounted on /") {
		t.Errorf("a disk in use: %v", err)
	}
	for _, d := range []Disk{small, busy} {
		b, err := os.ReadFile(d.Path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b[:mib], before) {
			t.Errorf("a refused disk of %d MiB was written to", d.Size>>20)
		}
	}
	short := filepath.Join(t.TempDir(), "short.img")
	if err := os.Link(raw, short); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(compress(t, raw))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "no table": make([]byte, mib), "short.zst": whole[:len(whole)/2], "other.zst": []byte("not zstd at all"),
		"garbage.zst": append(bytes.Clone(whole[:len(whole)-9]), "XXXXXXXXX"...),
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenSource(ctx, path); err == nil {
			t.Errorf("%s was taken for an image", name)
		}
	}
	if err := os.Truncate(short, 60*mib); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSource(ctx, short); err == nil || !strings.Contains(err.Error(), "60 of 342 MiB") {
		t.Errorf("an image that was cut off: %v", err)
	}
}

// TestCutOff: a disk whose flashing ended half-way has no table, so that nothing boots from it.
func TestCutOff(t *testing.T) {
	d := used(t, disk.MinSize)
	raw := image(t)
	write(t, raw, d) // a whole one was there before
	ctx, cancel := context.WithCancel(t.Context())
	err := Write(ctx, source(t, raw), d, Options{Progress: func(step string, done, _ int64) {
		if done > 2*mib {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	b, err := os.ReadFile(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !zero(b[:tableEnd]) || !zero(b[len(b)-tailSize:]) {
		t.Error("there is a partition table")
	}
}

// TestTableGoesFirst: the old table is gone from the medium, not only from its cache, before anything else is written:
// who pulls the plug, or the stick, must not be left with a table of files that are half another's.
func TestTableGoesFirst(t *testing.T) {
	target := used(t, disk.MinSize)
	out, err := exec.CommandContext(t.Context(), "losetup", "--find", "--show", target.Path).Output()
	if err != nil {
		t.Fatal(err)
	}
	node := strings.TrimSpace(string(out))
	defer func() {
		if err := exec.Command("losetup", "--detach", node).Run(); err != nil {
			t.Error(err)
		}
	}()
	// Documentation/block/stat.rst: the 16th is the number of flushes.
	flushes := func() string {
		b, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(node), "stat"))
		fields := strings.Fields(string(b))
		if err != nil || len(fields) < 16 {
			t.Fatalf("%q, %v", b, err)
		}
		return fields[15]
	}
	d, err := Look(node)
	if err != nil {
		t.Fatal(err)
	}
	before, wrote := flushes(), false
	err = Write(t.Context(), source(t, image(t)), d, Options{Progress: func(string, int64, int64) {
		if !wrote && flushes() == before {
			t.Error("the image is written before the disk was told to keep that there is no table")
		}
		wrote = true
	}})
	if err != nil || !wrote {
		t.Error(wrote, err)
	}
}

// TestVerifyFinds: a disk that does not keep what it is given is noticed, also where it was told to be zero.
func TestVerifyFinds(t *testing.T) {
	raw := image(t)
	state, _ := span(source(t, raw).table.partition(disk.State))
	data, _ := span(source(t, raw).table.partition(disk.Data))
	for name, at := range map[string]int64{"the image": 2 * mib, "a hole in STATE": data - mib, "the start of DATA": data + 2*mib, "behind the header of STATE": state + 20*mib} {
		d := used(t, disk.MinSize)
		tampered := false
		err := Write(t.Context(), source(t, raw), d, Options{Progress: func(step string, done, total int64) {
			if step == StepWrite && done == total {
				f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				_, err = f.WriteAt([]byte("bit rot"), at)
				tampered = err == nil
			}
		}})
		if !tampered || err == nil || !strings.Contains(err.Error(), "read back") {
			t.Errorf("%s: tampered %v: %v", name, tampered, err)
		}
	}
}

func TestLook(t *testing.T) {
	root := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{
		"sys/dev/block/8:0/dev": "8:0", "sys/dev/block/8:0/ro": "1", "sys/dev/block/8:0/size": "2048",
		"sys/dev/block/8:0/sda1/partition": "1", "sys/dev/block/8:0/sda1/dev": "8:1",
		"sys/dev/block/8:0/sda2/partition": "2", "sys/dev/block/8:0/sda2/dev": "8:2", "sys/dev/block/8:0/sda2/holders/dm-0/x": "",
		"proc/self/mountinfo": "29 1 8:1 / / rw - ext4 /dev/root rw\n30 1 9:1 / /other rw - ext4 /dev/x rw",
		"proc/swaps":          "Filename Type Size\n/dev/sda2 partition 1024",
	} {
		put(path, text)
	}
	users, err := readUsers(root)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(append(users["8:1"], users["/dev/sda2"]...), ", "); got != "is mounted on /, is used as swap" {
		t.Errorf("users: %s", got)
	}
	d := Disk{}
	if err := d.describe(filepath.Join(root, "sys/dev/block/8:0"), users); err != nil {
		t.Fatal(err)
	}
	// The folder is named by its number here, by the disk's name in a real sysfs.
	want := "it is read-only, sda1 is mounted on /, sda2 is used as swap, sda2 belongs to dm-0"
	if got := strings.Join(d.InUse, ", "); got != want || d.Size != mib {
		t.Errorf("in use: %s, %d bytes\nwant    %s", got, d.Size, want)
	}
	if err := (&Disk{}).describe(filepath.Join(root, "sys/dev/block/8:0/sda1"), users); err == nil || !strings.Contains(err.Error(), "is a partition") {
		t.Errorf("a partition: %v", err)
	}
	if _, err := Look(t.TempDir()); err == nil {
		t.Error("a folder was taken for a disk")
	}
	if d, err := Look(image(t)); err != nil || !d.File || d.Content == "" {
		t.Errorf("a file with an image: %+v, %v", d, err)
	}
}

func FuzzTable(f *testing.F) {
	path := filepath.Join(f.TempDir(), "disk.img")
	if err := disk.Write(path, disk.Options{UKI: []byte("MZ"), Size: disk.MinSize}); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:tableEnd])
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := parseTable(b)
		if err != nil {
			return
		}
		head, tail, err := table.fit(disk.MinSize+mib, random(1))
		if err != nil {
			return
		}
		if _, err := parseTable(head); err != nil || len(tail) != tailSize {
			t.Errorf("fitted table: %v, backup of %d bytes", err, len(tail))
		}
	})
}
