package kmod

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

const closure = `virtio /lib/modules/6.1/kernel/virtio.ko
virtio_ring /lib/modules/6.1/kernel/virtio_ring.ko
scsi_common builtin
scsi_mod kernel/scsi_mod.ko scsi_common
virtio-net /lib/modules/6.1/kernel/virtio_net.ko virtio_ring,virtio
virtio_scsi /lib/modules/6.1/kernel/virtio_scsi.ko virtio,virtio_ring,scsi_mod
`

// image makes a root with the closure and its files, and a loader that notes what it inserts.
func image(t *testing.T) (l *Loader, root string, inserted func() []string) {
	t.Helper()
	root = t.TempDir()
	put := func(path, data string) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(ClosurePath, closure)
	put("/lib/modules/kernel/scsi_mod.ko", "")
	for _, m := range []string{"virtio", "virtio_ring", "virtio_net"} {
		put("/lib/modules/6.1/kernel/"+m+".ko", "")
	}
	l, err := NewLoader(root)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var names []string
	l.insert = func(path string, _ []byte, parameters string) error {
		if _, err := os.Stat(path); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		names = append(names, strings.TrimSpace(filepath.Base(path)+" "+parameters))
		return nil
	}
	return l, root, func() []string { return names }
}

func TestLoadsEachModuleOnceAfterItsDependencies(t *testing.T) {
	l, _, inserted := image(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := l.Load("virtio-net"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := l.Load("scsi_mod"); err != nil {
		t.Error(err)
	}
	want := []string{"virtio_ring.ko async_probe", "virtio.ko async_probe", "virtio_net.ko async_probe", "scsi_mod.ko scan=sync async_probe"}
	if diff := cmp.Diff(want, inserted()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsThereIsNotLoaded(t *testing.T) {
	l, root, _ := image(t)
	for path, state := range map[string]string{"virtio/initstate": "live\n", "virtio_ring/parameters/x": ""} {
		path = filepath.Join(root, "sys/module", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(state), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.insert = func(path string, _ []byte, _ string) error { t.Errorf("loaded %s", path); return nil }
	for _, m := range []string{"virtio", "virtio_ring", "scsi_common"} {
		if err := l.Load(m); err != nil {
			t.Error(err)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	l, _, _ := image(t)
	if err := l.Load("floppy"); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown module: %v", err)
	}
	if err := l.Load("virtio_scsi"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	l, _, _ = image(t)
	l.insert = func(string, []byte, string) error { return unix.EEXIST } // somebody was faster
	if err := l.Load("virtio_net"); err != nil {
		t.Error(err)
	}
	l, _, _ = image(t)
	l.insert = func(string, []byte, string) error { return unix.EKEYREJECTED } // unsigned, under Secure Boot
	if err := l.Load("virtio_net"); !errors.Is(err, unix.EKEYREJECTED) {
		t.Error(err)
	}
}

func TestParseClosureRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"a":                        "line 1",
		"a x y z":                  "line 1",
		"a /a.ko\na /b.ko":         "twice",
		"a-b /a.ko\na_b /b.ko":     "twice",
		"a /a.ko b\nb /b.ko":       "not above",
		"a /a.ko a":                "not above",
		strings.Repeat(" ", 2<<20): "at most",
	} {
		if _, err := ParseClosure([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseClosure(f *testing.F) {
	f.Add([]byte(closure))
	f.Add([]byte("a builtin\nb /b.ko a,-\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		modules, err := ParseClosure(data)
		if err != nil {
			return
		}
		for _, m := range modules {
			for _, dep := range m.Depends {
				if _, ok := modules[dep]; !ok || dep == m.Name {
					t.Errorf("%s depends on %s", m.Name, dep)
				}
			}
		}
	})
}

// TestExpand: a module is decompressed once, and its image goes to the kernel.
func TestExpand(t *testing.T) {
	l, root, _ := image(t)
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	l.closure["packed"] = Module{Name: "packed", Path: "packed.ko.zst", Depends: []string{"virtio"}}
	l.closure["torn"] = Module{Name: "torn", Path: "torn.ko.zst"}
	packed := z.EncodeAll([]byte("the module"), nil)
	for name, data := range map[string][]byte{"packed": packed, "torn": packed[:len(packed)-3]} {
		if err := os.WriteFile(filepath.Join(root, "lib/modules", name+".ko.zst"), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got []string // written by whoever inserts, one after the other as they depend on each other
	l.insert = func(path string, image []byte, _ string) error {
		got = append(got, filepath.Base(path)+" "+string(image))
		return nil
	}
	var wg sync.WaitGroup
	for range 4 {
		for _, load := range []func(...string) error{l.Load, l.LoadFirst} {
			wg.Go(func() {
				if err := load("packed"); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if diff := cmp.Diff([]string{"virtio.ko ", "packed.ko.zst the module"}, got); diff != "" {
		t.Error(diff)
	}
	for range 2 {
		if err := l.Load("torn"); err == nil || !strings.Contains(err.Error(), "decompress") {
			t.Errorf("torn: %v", err)
		}
	}
}

// TestLoadFirst: what others load waits from the next module on, and goes on afterwards.
func TestLoadFirst(t *testing.T) {
	l, _, inserted := image(t)
	insert, began, hold := l.insert, make(chan string, 4), make(chan struct{})
	l.insert = func(path string, image []byte, parameters string) error {
		if strings.HasSuffix(path, "scsi_mod.ko") {
			began <- path
			<-hold
		}
		return insert(path, image, parameters)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.LoadFirst("scsi_mod"); err != nil {
			t.Error(err)
		}
	})
	<-began
	asked := make(chan struct{})
	wg.Go(func() {
		close(asked)
		if err := l.Load("virtio_net"); err != nil {
			t.Error(err)
		}
	})
	<-asked
	close(hold)
	wg.Wait()
	want := []string{"scsi_mod.ko scan=sync async_probe", "virtio_ring.ko async_probe", "virtio.ko async_probe", "virtio_net.ko async_probe"}
	if diff := cmp.Diff(want, inserted()); diff != "" {
		t.Error(diff)
	}
	// One that is in the way of the other is waited for, not waited with.
	if err := errors.Join(l.LoadFirst("virtio_net"), l.Load("scsi_mod")); err != nil {
		t.Error(err)
	}
}
