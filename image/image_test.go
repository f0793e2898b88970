package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/kernel"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"image": main})
}

// TestScripts runs the command as an operator would, on an image with a kernel of a few bytes.
func TestScripts(t *testing.T) {
	image, config := sample(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("IMAGE", image)
			e.Setenv("XDG_CONFIG_HOME", config)
			return nil
		},
	})
}

// sample builds the image; its development keys are where XDG_CONFIG_HOME says.
func sample(t *testing.T) (image, config string) {
	t.Helper()
	dir, config := t.TempDir(), t.TempDir()
	files := map[string]string{
		"index.json": `{"format":1,"release":"9.9-test","modules":[{"name":"ext4","path":"ext4.ko"}]}`,
		"m/ext4.ko":  "module", "vmlinuz": "MZ kernel", "ratchet": "appliance",
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o := builder.Options{
		Flavour: "cloud",
		Out:     filepath.Join(dir, "out"),
		Source:  builder.Source{Root: dir, Version: "v1.2.3"},
		Binary:  filepath.Join(dir, "ratchet"),
		Modules: []string{"ext4"},
		Kernel: &kernel.Kernel{
			Package: "linux-image-9.9-test", Version: "9.9-1", Release: "9.9-test", Locked: true,
			Dir: dir, Vmlinuz: filepath.Join(dir, "vmlinuz"), Modules: filepath.Join(dir, "m"),
		},
		KeyDir:   filepath.Join(config, "ratchet", "keys"),
		CacheDir: t.TempDir(),
	}
	if _, err := o.Build(t.Context()); err != nil {
		t.Fatal(err)
	}
	return o.Out, config
}
