package memory

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// TestHeader: the same page as mkswap(8) writes, apart from the UUID, which nobody asks for here.
func TestHeader(t *testing.T) {
	const size = 128 << 20
	mkswap, err := exec.LookPath("mkswap")
	if err != nil {
		mkswap = "/usr/sbin/mkswap" // not on everybody's path
	}
	area := filepath.Join(t.TempDir(), "area")
	if err := os.WriteFile(area, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(area, size); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(mkswap, "--pagesize", strconv.Itoa(os.Getpagesize()), area).CombinedOutput()
	if err != nil {
		t.Fatalf("%v (apt-get install util-linux)\n%s", err, out)
	}
	made, err := os.ReadFile(area)
	if err != nil {
		t.Fatal(err)
	}
	want := made[:os.Getpagesize()]
	clear(want[1036 : 1036+16])
	got, err := header(size, os.Getpagesize())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("header differs from mkswap's:\n%x\n%x", got[1024:1060], want[1024:1060])
	}
}

func TestHeaderRefuses(t *testing.T) {
	for _, size := range []uint64{0, 4096, 8191, 1 << 60} {
		if page, err := header(size, 4096); err == nil {
			t.Errorf("%d bytes: a page of %d", size, len(page))
		}
	}
}

func TestAreaSize(t *testing.T) {
	for _, c := range []struct{ total, want uint64 }{
		{0, 0},
		{4096*16*3 + 4096, 3 * 4096}, // whole pages
		{958 << 20, 958 << 20 / 16 / 4096 * 4096},
		{Scarce - 1, (Scarce - 1) / 16 / 4096 * 4096},
		{Scarce, 0},
		{1 << 40, 0},
	} {
		if got := areaSize(c.total, 4096); got != c.want {
			t.Errorf("%d bytes of memory: an area of %d, want %d", c.total, got, c.want)
		}
	}
}

func TestNoDMAReserve(t *testing.T) {
	for ratios, want := range map[string]string{
		"256\t256\t32\t0\t0\n": "0 256 32 0 0",
		"0 256 32":             "0 256 32",
		"256":                  "0",
		"":                     "",
	} {
		if got := noDMAReserve(ratios); got != want {
			t.Errorf("%q: %q, want %q", ratios, got, want)
		}
	}
}

func TestField(t *testing.T) {
	const text = "MemTotal:         981368 kB\nMemAvailable:   883476 kB\nHugePages_Total:       0\nTorn: x kB\n"
	for key, want := range map[string]uint64{"MemTotal": 981368 << 10, "MemAvailable": 883476 << 10, "Mem": 0, "Torn": 0, "": 0} {
		if got := Field(text, key); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
}

func TestSwappedIn(t *testing.T) {
	for text, want := range map[string]uint64{
		"nr_free_pages 9\npswpin 485\npswpout 6\n": 485, "pswpout 6\n": 0, "pswpin\n": 0, "pswpin x\n": 0, "": 0,
	} {
		if got := swappedIn(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestSaved(t *testing.T) {
	for stat, want := range map[string]int64{
		"22126592 13966859 15396864        0 16031744       61       70     1546     1605\n": 22126592 - 15396864,
		"4096 4096 8192 0\n": -4096, "": 0, "x y z": 0, "1 2": 0,
	} {
		if got := saved(stat); got != want {
			t.Errorf("%q: %d, want %d", stat, got, want)
		}
	}
}
