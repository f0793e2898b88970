package kmod

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// files lists the names of the modules that the image has.
func files(t *testing.T, root string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(root, "lib/modules"), func(path string, d fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".ko" {
			names = append(names, d.Name())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func TestDiscard(t *testing.T) {
	for name, c := range map[string]struct{ keep, live, want []string }{
		"nothing is needed":      {nil, nil, nil},
		"with dependencies":      {[]string{"virtio-net"}, nil, []string{"virtio.ko", "virtio_net.ko", "virtio_ring.ko"}},
		"what is loaded is not":  {[]string{"virtio_net"}, []string{"virtio", "virtio_ring"}, []string{"virtio_net.ko"}},
		"all":                    {[]string{"virtio_net", "virtio_scsi"}, nil, []string{"scsi_mod.ko", "virtio.ko", "virtio_net.ko", "virtio_ring.ko"}},
		"one that nobody has":    {[]string{"floppy", "scsi_mod"}, nil, []string{"scsi_mod.ko"}},
		"loaded, and not needed": {nil, []string{"scsi_mod"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l, root, _ := image(t)
			for _, m := range c.live {
				dir := filepath.Join(root, "sys/module", m)
				if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "initstate"), []byte("live\n"), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Discard(c.keep); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, files(t, root)); diff != "" {
				t.Error(diff)
			}
			for _, m := range c.live { // it is in the kernel, and its file is not asked for
				if err := l.Load(m); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestDiscardOnWorkstation: without a closure there is no file of ours.
func TestDiscardOnWorkstation(t *testing.T) {
	root := t.TempDir()
	module := filepath.Join(root, "lib/modules/6.1/kernel/ext4.ko")
	if err := errors.Join(os.MkdirAll(filepath.Dir(module), 0o755), os.WriteFile(module, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	l, err := NewLoader(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Discard(nil); err != nil || len(files(t, root)) != 1 {
		t.Errorf("%v, left: %v", err, files(t, root))
	}
}
