package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/image/kernel"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/image/sign"
)

// tiny are the options of an image with a kernel of a few bytes and a program of fewer: all
// steps are real, none takes long.
func tiny(t testing.TB, keyDir string) Options {
	t.Helper()
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put("index.json", `{"format":1,"release":"9.9-test","builtin":["virtio"],"modules":[{"name":"jbd2","path":"kernel/jbd2.ko"},{"name":"ext4","path":"kernel/ext4.ko","depends":["jbd2"]}]}`)
	put("modules/kernel/ext4.ko", "ext4 module")
	put("modules/kernel/jbd2.ko", "jbd2 module")
	return Options{
		Flavour: "cloud",
		Out:     t.TempDir(),
		Source:  Source{Root: dir, Version: "v1.2.3", Epoch: "1700000000"},
		Binary:  put("ratchet", "appliance"),
		Modules: []string{"ext4", "virtio", "absent"},
		Kernel: &kernel.Kernel{
			Flavour: "cloud", Package: "linux-image-9.9-test", Version: "9.9-1", Release: "9.9-test",
			SHA256: strings.Repeat("ab", 32), Locked: true,
			Dir: dir, Vmlinuz: put("vmlinuz", "MZ kernel"), Modules: filepath.Join(dir, "modules"),
		},
		KeyDir:     keyDir,
		CacheDir:   t.TempDir(),
		DiskSize:   disk.MinSize,
		DiskConfig: put("first.yaml", "version: 1\n"),
	}
}

func build(t testing.TB, o Options) Manifest {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := o.Build(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// source makes the smallest tree that the builder can compile.
func source(t testing.TB) Source {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":            "module github.com/ratchetos/ratchet\n\ngo 1.26\n",
		"main.go":           "package main\n\nimport \"github.com/ratchetos/ratchet/core/version\"\n\nfunc main() { println(version.Version, version.Epoch) }\n",
		"core/version/v.go": "package version\n\nvar Version, Commit, Epoch string\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Source{Root: root, Version: "v9.8.7", Epoch: "1700000000"}
}

// TestTwoBuildsAreEqual compiles and builds the same source in two folders with empty caches.
func TestTwoBuildsAreEqual(t *testing.T) {
	keyDir := t.TempDir()
	var outs [2]string
	for i := range outs {
		o := tiny(t, keyDir)
		o.Binary, o.Source = "", source(t)
		build(t, o)
		outs[i] = o.Out
	}
	for _, name := range []string{ApplianceFile, UnsignedFile, SignedFile, InitrdFile, CmdlineFile, DiskFile, SBOMFile} {
		if err := equal(filepath.Join(outs[0], name), filepath.Join(outs[1], name)); err != nil {
			t.Errorf("%s differs between two builds: %v", name, err)
		}
	}
	binary, err := os.ReadFile(filepath.Join(outs[0], ApplianceFile))
	if err != nil || !bytes.Contains(binary, []byte("v9.8.7")) {
		t.Errorf("the version is not in the binary (%v)", err)
	}
}

// equal compares two files piece by piece: a disk image is large and mostly holes.
func equal(one, two string) error {
	a, err := os.Open(one)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(two)
	if err != nil {
		return err
	}
	defer b.Close()
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; at += int64(len(x)) {
		n, err := a.ReadAt(x, at)
		m, err2 := b.ReadAt(y, at)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return fmt.Errorf("in the MiB at %d", at)
		}
		if err == io.EOF && err2 == io.EOF {
			return nil
		}
		if err := errors.Join(err, err2); err != nil {
			return err
		}
	}
}

func TestFindSource(t *testing.T) {
	src, err := FindSource(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(src.Root, "configs/kernel.lock")); err != nil || src.Version == "" {
		t.Errorf("source %+v: %v", src, err)
	}
}

func TestManifest(t *testing.T) {
	o := tiny(t, t.TempDir())
	var lines bytes.Buffer
	o.Progress = &lines
	want := build(t, o)
	got, err := ReadManifest(filepath.Join(o.Out, ManifestFile))
	if err != nil {
		t.Fatal(err)
	}
	if got.PCR11 != want.PCR11 || len(got.PCR11.SHA256) != 64 || got.Version != "v1.2.3" || !got.Development || !got.Kernel.Locked {
		t.Errorf("manifest %+v", got)
	}
	if strings.Join(got.Modules, " ") != "jbd2 ext4" || strings.Join(got.Missing, " ") != "absent" {
		t.Errorf("modules %v missing %v", got.Modules, got.Missing)
	}
	if len(got.SHA256) != 5 || got.Sizes.UKI == 0 || got.Sizes.InitramfsRaw == 0 || got.Sizes.Binary != len("appliance") {
		t.Errorf("digests %v sizes %+v", got.SHA256, got.Sizes)
	}
	for _, path := range []string{"/usr/lib/systemd/boot/efi/linuxx64.efi.stub", caBundle} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got.Host[path] != digest(data) {
			t.Errorf("the manifest says %q of %s", got.Host[path], path)
		}
	}
	for _, s := range []string{"kernel", "compress initramfs", "unified kernel image", "disk image", "no module [absent]", "made development keys"} {
		if !strings.Contains(lines.String(), s) {
			t.Errorf("no progress about %q in\n%s", s, &lines)
		}
	}
}

func TestVerify(t *testing.T) {
	keyDir, others := t.TempDir(), t.TempDir()
	dev := tiny(t, keyDir)
	devManifest := build(t, dev)
	release := tiny(t, t.TempDir())
	release.Release, release.DevelopmentKeys, release.KeyDir = true, true, keyDir
	releaseManifest := build(t, release)
	if _, _, err := keys.Development(others); err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.efi")
	b, err := os.ReadFile(filepath.Join(release.Out, SignedFile))
	if err != nil {
		t.Fatal(err)
	}
	// A different kernel under the old signature.
	if err := os.WriteFile(cut, bytes.Replace(b, []byte("MZ kernel"), []byte("MZ kermit"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, file, keys string
		manifest         *Manifest
		development, own bool // own: development keys are no good
		is               error
		says             string
	}{
		{name: "development", file: filepath.Join(dev.Out, SignedFile), manifest: &devManifest, development: true},
		{name: "development disk", file: filepath.Join(dev.Out, DiskFile), manifest: &devManifest, development: true},
		{name: "development as release", file: filepath.Join(dev.Out, SignedFile), manifest: &devManifest, is: ErrDevelopment},
		{name: "release", file: filepath.Join(release.Out, SignedFile), manifest: &releaseManifest},
		{name: "release disk", file: filepath.Join(release.Out, DiskFile), manifest: &releaseManifest},
		{name: "without signed policy", file: filepath.Join(release.Out, UnsignedFile), says: "no signed PCR policy"},
		{name: "release with development keys", file: filepath.Join(release.Out, SignedFile), manifest: &releaseManifest, own: true, is: ErrDevelopmentKeys},
		{name: "unsigned", file: filepath.Join(release.Out, UnsignedFile), is: sign.ErrUnsigned},
		{name: "other key", file: filepath.Join(release.Out, SignedFile), keys: others, is: sign.ErrSignature},
		{name: "other manifest", file: filepath.Join(release.Out, SignedFile), manifest: &devManifest, says: "another build"},
		{name: "changed", file: cut, manifest: &releaseManifest, is: sign.ErrSignature, says: "another build"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.keys == "" {
				c.keys = keyDir
			}
			cert, err := keys.Ring{Dir: c.keys}.Certificate(keys.SecureBoot)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Inspect(c.file)
			if err != nil {
				t.Fatal(err)
			}
			err = Verify(r, Check{Cert: cert, Manifest: c.manifest, Development: c.development, DevelopmentKeys: !c.own})
			switch {
			case c.is == nil && c.says == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.is != nil && !errors.Is(err, c.is):
				t.Errorf("error %v, want %v", err, c.is)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
	if releaseManifest.Development {
		t.Error("the release's manifest says development")
	}
}

func TestRefusesBeforeWork(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"release with development keys": func(o *Options) { o.Release = true },
		"keys that are not there":       func(o *Options) { o.Keys.Dir = "/nonexistent" },
		"no output":                     func(o *Options) { o.Out = "" },
		"blank in the version":          func(o *Options) { o.Version = "a b" },
		"no stub":                       func(o *Options) { o.Stub = "/nonexistent" },
	} {
		o := tiny(t, t.TempDir())
		change(&o)
		if _, err := o.Build(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestInspectRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"empty":    nil,
		"text":     []byte("hello, this is neither"),
		"zeros":    make([]byte, 1<<20),
		"dos only": append([]byte("MZ"), make([]byte, 600)...),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Inspect(path); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
