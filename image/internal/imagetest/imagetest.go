// Package imagetest has an image with a kernel of a few bytes: every step of a build is real, none
// takes long.
package imagetest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/image/kernel"
)

// Options are those of a development image, with folders that go away with the test.
func Options(t testing.TB) builder.Options {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"index.json": `{"format":1,"release":"9.9-test","modules":[{"name":"ext4","path":"ext4.ko"}]}`,
		"m/ext4.ko":  "module", "vmlinuz": "MZ kernel", "ratchet": "appliance",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return builder.Options{
		Flavour: "cloud",
		Out:     filepath.Join(dir, "out"),
		Source:  builder.Source{Root: dir, Version: "v1.2.3", Epoch: "1700000000"},
		Binary:  filepath.Join(dir, "ratchet"),
		Modules: []string{"ext4"},
		Kernel: &kernel.Kernel{
			Package: "linux-image-9.9-test", Version: "9.9-1", Release: "9.9-test", Locked: true,
			Dir: dir, Vmlinuz: filepath.Join(dir, "vmlinuz"), Modules: filepath.Join(dir, "m"),
		},
		KeyDir:   t.TempDir(),
		CacheDir: t.TempDir(),
		DiskSize: disk.MinSize,
	}
}
