package release

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/internal/imagetest"
	"github.com/ratchetos/ratchet/image/keys"
)

const changelog = "# Changelog\n\nIntro.\n\n## Unreleased\n\n- a new thing\n\n## [1.0.0] - 2026-01-02\n\n- the first\n"

func options(t *testing.T, ring keys.Ring) Options {
	t.Helper()
	b := imagetest.Options(t)
	b.Keys = ring
	return Options{Version: "v1.2.3", Out: filepath.Join(t.TempDir(), "release"), Build: b, Changelog: changelog}
}

func own(t *testing.T) keys.Ring {
	t.Helper()
	r, err := keys.Create(filepath.Join(t.TempDir(), "own"), "Example")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// TestRotated: the first release after the bundle key was rotated is signed by the old one, which is all that boxes know.
func TestRotated(t *testing.T) {
	t.Parallel()
	ring := own(t)
	if err := ring.Rotate(keys.Bundle, "Example", ""); err != nil {
		t.Fatal(err)
	}
	ring.URIs = map[keys.Role]string{keys.Bundle: filepath.Join(ring.Dir, "bundle-old.key")}
	o := options(t, ring)
	if _, err := Make(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	run(t, o.Out, "openssl", "dgst", "-sha256", "-verify", "bundle-old.pub", "-signature", "SHA256SUMS.sig", "SHA256SUMS")
}

// TestMake checks a release with the tools that a user has, and makes it again: in other folders,
// with empty caches, it is the same.
func TestMake(t *testing.T) {
	t.Parallel()
	ring := own(t)
	o := options(t, ring)
	names, err := Make(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"KEK.auth", "NOTES.md", "PK.auth", "SHA256SUMS", "SHA256SUMS.sig", "bundle.pub", "db.auth", "kek.crt", "owner.pub", "pk.crt",
		"plugin.pub", "policy-spare.pub", "policy.pub",
		"ratchet-v1.2.3-cloud.bundle", "ratchet-v1.2.3-cloud.efi", "ratchet-v1.2.3-cloud.image.json", "ratchet-v1.2.3-cloud.img.zst",
		"secureboot.crt",
	}
	if !slices.Equal(names, want) {
		t.Errorf("files %v, want %v", names, want)
	}
	run(t, o.Out, "sha256sum", "--check", "--strict", "SHA256SUMS")
	run(t, o.Out, "openssl", "dgst", "-sha256", "-verify", "bundle.pub", "-signature", "SHA256SUMS.sig", "SHA256SUMS")
	run(t, o.Out, "sbverify", "--cert", "secureboot.crt", "ratchet-v1.2.3-cloud.efi")
	if notes, err := os.ReadFile(filepath.Join(o.Out, "NOTES.md")); err != nil || string(notes) != "# v1.2.3\n\n- a new thing\n" {
		t.Errorf("notes %q, %v", notes, err)
	}
	left, err := os.ReadDir(filepath.Dir(o.Out))
	if err != nil || len(left) != 1 {
		t.Errorf("%d things beside the release, %v", len(left), err)
	}
	again := options(t, ring)
	if _, err := Make(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		one, err := os.ReadFile(filepath.Join(o.Out, name))
		if err != nil {
			t.Fatal(err)
		}
		if two, err := os.ReadFile(filepath.Join(again.Out, name)); err != nil || !bytes.Equal(one, two) {
			t.Errorf("%s differs between two builds (%v)", name, err)
		}
	}
}

// TestRebuild is what somebody does who does not believe the vendor: with nothing but the source and what was
// published, the unsigned image comes out the same.
func TestRebuild(t *testing.T) {
	t.Parallel()
	o := options(t, own(t))
	if _, err := Make(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	m, err := builder.ReadManifest(filepath.Join(o.Out, "ratchet-v1.2.3-cloud.image.json"))
	if err != nil {
		t.Fatal(err)
	}
	b := imagetest.Options(t)
	b.Release, b.Version, b.Keys = true, "v1.2.3", keys.Ring{Dir: o.Out, Detach: t.TempDir()}
	var w *keys.Wanted
	if _, err := b.Build(t.Context()); !errors.As(err, &w) {
		t.Fatalf("built without the private keys: %v", err)
	}
	unsigned, err := os.ReadFile(filepath.Join(b.Out, builder.UnsignedFile))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(unsigned)); got != m.SHA256[builder.UnsignedFile] {
		t.Errorf("rebuilt %s, published %s", got, m.SHA256[builder.UnsignedFile])
	}
}

// TestDetached has the bundle key far away: it is asked for the update and for the list of checksums.
func TestDetached(t *testing.T) {
	t.Parallel()
	ring := own(t)
	key, err := ring.Signer(keys.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(ring.Dir, "bundle.key")); err != nil {
		t.Fatal(err)
	}
	ring.Detach = t.TempDir()
	o := options(t, ring)
	asked := 0
	for {
		_, err := Make(t.Context(), o)
		var w *keys.Wanted
		if !errors.As(err, &w) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if asked++; asked > 2 {
			t.Fatal("asked again and again")
		}
		digest, err := os.ReadFile(w.File)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := key.Sign(nil, digest, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Attach(ring.Detach, sig); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

func TestRefuses(t *testing.T) {
	dev, _, err := keys.Development(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Options)
		says   string
	}{
		"no v":             {func(o *Options) { o.Version = "1.2.3" }, "not of the form"},
		"a path":           {func(o *Options) { o.Version = "v1.2.3-../../x" }, "not of the form"},
		"no version":       {func(o *Options) { o.Version = "" }, "not of the form"},
		"development keys": {func(o *Options) { o.Build.Keys = dev }, "image keys init"},
		"no keys":          {func(o *Options) { o.Build.Keys = keys.Ring{} }, "image keys init"},
		"keys in the way":  {func(o *Options) { o.Build.Keys = own(t); o.Out = o.Build.Keys.Dir }, "is not a release"},
		"no notes":         {func(o *Options) { o.Changelog = "# Changelog\n\n## 1.0.0\n\n- old\n" }, "says nothing about v1.2.3"},
	} {
		o := options(t, keys.Ring{Dir: "unused"})
		if err := os.MkdirAll(o.Out, 0o755); err != nil {
			t.Fatal(err)
		}
		c.change(&o)
		if _, err := Make(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.says)
		}
		if _, err := os.Stat(o.Out); err != nil {
			t.Errorf("%s: the release before is gone: %v", name, err)
		}
	}
}

// TestRehearsal: development keys sign a release only when asked to, and verify says so.
func TestRehearsal(t *testing.T) {
	t.Parallel()
	o := options(t, keys.Ring{})
	o.Build.DevelopmentKeys = true
	if _, err := Make(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func TestNotes(t *testing.T) {
	for version, want := range map[string]string{"v1.0.0": "- the first", "v9.9.9": "- a new thing"} {
		got, err := notes(changelog, version)
		if err != nil || string(got) != fmt.Sprintf("# %s\n\n%s\n", version, want) {
			t.Errorf("%s: %q, %v", version, got, err)
		}
	}
	if got, err := notes("", "v1.0.0"); err != nil || string(got) != "# v1.0.0\n" {
		t.Errorf("no changelog: %q, %v", got, err)
	}
}
