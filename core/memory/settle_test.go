package memory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// machine is a root with the kernel's files of a machine of 958 MiB, and what was done to it.
type machine struct {
	t    *testing.T
	root string
	done []string
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, root: t.TempDir()}
	for file, text := range map[string]string{
		"proc/meminfo":  "MemTotal: 981368 kB\nMemAvailable: 883476 kB\nSwapTotal: 122664 kB\nSwapFree: 97832 kB\n",
		"proc/vmstat":   "pswpin 0\n",
		reserveFile:     "256\t256\t32\t0\t0\n",
		swappinessFile:  "60\n",
		pageClusterFile: "3\n",
		pageListsFile:   "0\n",
		minFreeFile:     "3962\n",
		watermarksFile:  "10\n",
		reclaimFile:     "",
		algorithmFile:   "lzo lzo-rle [zstd]\n",
		sizeFile:        "0\n",
		compactFile:     "",
		statFile:        "       0        0        0        0        0        0        0        0        0\n",
		device:          "",
	} {
		path := filepath.Join(m.root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *machine) settler() *settler {
	tick := make(chan time.Time)
	close(tick) // nobody waits
	return &settler{
		root: m.root, tick: tick, log: slog.New(slog.DiscardHandler),
		load: func(name string) error { m.done = append(m.done, "load "+name); return nil },
		swapon: func(path string) error {
			m.done = append(m.done, "swapon "+strings.TrimPrefix(path, m.root))
			return nil
		},
	}
}

func (m *machine) read(file string) string {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.root, file))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

func (m *machine) write(file, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, file), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) remove(file string) {
	m.t.Helper()
	if err := os.Remove(filepath.Join(m.root, file)); err != nil {
		m.t.Fatal(err)
	}
}

func TestSettle(t *testing.T) {
	m := newMachine(t)
	if err := m.settler().settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"load zram", "swapon /dev/zram0"}, m.done); diff != "" {
		t.Error(diff)
	}
	got := map[string]string{}
	for _, file := range []string{reserveFile, swappinessFile, pageClusterFile, pageListsFile, minFreeFile, watermarksFile, reclaimFile, algorithmFile, sizeFile, compactFile} {
		got[file] = strings.TrimSpace(m.read(file))
	}
	want := map[string]string{
		reserveFile: "0 256 32 0 0", swappinessFile: "100", pageClusterFile: "0", pageListsFile: pageLists, minFreeFile: minFree, watermarksFile: watermarks, reclaimFile: "2097152",
		algorithmFile: "deflate", sizeFile: "62803968", compactFile: "1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if page := m.read(device); len(page) != os.Getpagesize() || !strings.HasSuffix(page, headerMagic) {
		t.Errorf("the device starts with %d bytes that end in %q", len(page), page[max(0, len(page)-10):])
	}
}

// TestSettleWithout: whatever is missing, the rest is done and the error says what was not.
func TestSettleWithout(t *testing.T) {
	refused := errors.New("refused")
	for _, c := range []struct {
		name   string
		change func(m *machine, s *settler)
		want   error
		swap   bool // the area is there nevertheless
	}{
		{"a reserve", func(m *machine, _ *settler) { m.remove(reserveFile) }, fs.ErrNotExist, true},
		{"the module", func(_ *machine, s *settler) { s.load = func(string) error { return refused } }, refused, false},
		{"the device", func(m *machine, _ *settler) { m.remove(device) }, fs.ErrNotExist, false},
		{"a choice of compressors", func(m *machine, _ *settler) { m.remove(algorithmFile) }, nil, true},
		{"swapping", func(_ *machine, s *settler) { s.swapon = func(string) error { return refused } }, refused, false},
		{"reclaim", func(m *machine, _ *settler) { m.remove(reclaimFile) }, fs.ErrNotExist, true},
		{"events", func(m *machine, _ *settler) { m.remove("proc/vmstat") }, fs.ErrNotExist, true},
		{"figures of the device", func(m *machine, _ *settler) { m.remove(statFile) }, fs.ErrNotExist, true},
		{"meminfo", func(m *machine, _ *settler) { m.remove("proc/meminfo") }, fs.ErrNotExist, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			s := m.settler()
			c.change(m, s)
			err := s.settle(t.Context())
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("%v, want %v", err, c.want)
			}
			swapped := len(m.done) > 0 && strings.HasPrefix(m.done[len(m.done)-1], "swapon")
			if swapped != c.swap {
				t.Errorf("done: %q", m.done)
			}
			if c.name != "a reserve" && !strings.HasPrefix(m.read(reserveFile), "0 256") {
				t.Error("the reserve is as it was")
			}
		})
	}
}

// TestOtherCompressor: a kernel that refuses the compressor has its own, with its module; so has a machine of many CPUs.
func TestOtherCompressor(t *testing.T) {
	for name, change := range map[string]func(m *machine, s *settler){
		"refused":   func(m *machine, _ *settler) { m.remove(algorithmFile) },
		"many CPUs": func(_ *machine, s *settler) { s.cpus = mostCPUs + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			s := m.settler()
			change(m, s)
			if err := s.settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"load zram", "load lzo_rle", "swapon /dev/zram0"}, m.done); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSettleAmple: a machine with enough memory is tuned and left alone.
func TestSettleAmple(t *testing.T) {
	m := newMachine(t)
	if err := os.WriteFile(filepath.Join(m.root, "proc/meminfo"), []byte("MemTotal: 8000000 kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.settler().settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(m.done) > 0 || m.read(reclaimFile) != "" || m.read(swappinessFile) != "60\n" || m.read(pageListsFile) != "0\n" || m.read(minFreeFile) != "3962\n" {
		t.Errorf("done: %q", m.done)
	}
}

// TestSettleEnds: a machine that is being turned off is not kept waiting.
func TestSettleEnds(t *testing.T) {
	m := newMachine(t)
	s := m.settler()
	s.tick = nil // it never comes
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.settle(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestCloseHoles: it is done when enough pages have come back since the last time.
func TestCloseHoles(t *testing.T) {
	m := newMachine(t)
	s, closed := m.settler(), uint64(0)
	for _, c := range []struct {
		back int // pages, ever
		want string
	}{{0, ""}, {holes - 1, ""}, {holes, "1"}, {holes, ""}, {2*holes - 1, ""}, {2 * holes, "1"}} {
		m.write("proc/vmstat", fmt.Sprintf("pswpin %d\n", c.back))
		m.write(compactFile, "")
		var err error
		if closed, err = s.closeHoles(closed); err != nil {
			t.Fatal(err)
		}
		if got := m.read(compactFile); got != c.want {
			t.Errorf("%d pages came back: wrote %q, want %q", c.back, got, c.want)
		}
	}
}

// TestKeep: it ends with the box, at the first error, and at once on a machine without an area.
func TestKeep(t *testing.T) {
	m := newMachine(t)
	s := m.settler()
	ctx, cancel := context.WithCancel(t.Context())
	s.tick = nil
	cancel()
	if err := s.keep(ctx); err != nil {
		t.Error(err)
	}
	s = m.settler()
	m.remove("proc/vmstat")
	if err := s.keep(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	m.remove(compactFile)
	if err := s.keep(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRead(t *testing.T) {
	got, err := Read(newMachine(t).root)
	if want := (Usage{Total: 981368 << 10, Available: 883476 << 10, Compressed: 24832 << 10}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if _, err := Read(t.TempDir()); err == nil {
		t.Error("memory of a machine without /proc/meminfo")
	}
}
