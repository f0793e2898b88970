package release

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/keys"
)

// Names of the files that have no version.
const (
	SumsFile      = "SHA256SUMS"
	SignatureFile = "SHA256SUMS.sig"
	NotesFile     = "NOTES.md"
)

// Options of a release. Version, Flavour and Out are needed.
type Options struct {
	Version string // v1.2.3 or v1.2.3-rc.1
	Out     string // folder that will hold the files, replaced as a whole
	// Build has everything else about the image; Version, Out, Release and Bundle are set here.
	Build     builder.Options
	Update    builder.BundleOptions
	Changelog string // its text; "" for none
	// Others are published as they are, by name: what hosts and guests install.
	Others map[string][]byte
}

// form of a version: semantic versioning with the v that Go and git tags have.
const form = `^v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$`

// Make builds and writes a release and returns its folder's files in order of name.
func Make(ctx context.Context, o Options) ([]string, error) {
	if ok, err := regexp.MatchString(form, o.Version); err != nil || !ok {
		return nil, fmt.Errorf("make release: version %q is not of the form v1.2.3", o.Version)
	}
	notes, err := notes(o.Changelog, o.Version)
	if err != nil {
		return nil, err
	}
	out, err := filepath.Abs(o.Out)
	if err != nil {
		return nil, fmt.Errorf("make release: %w", err)
	}
	if err := replaceable(out); err != nil {
		return nil, fmt.Errorf("make release: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return nil, fmt.Errorf("make release: %w", err)
	}
	// Beside the target, so that what is whole can be renamed.
	work, err := os.MkdirTemp(filepath.Dir(out), ".release-")
	if err != nil {
		return nil, fmt.Errorf("make release: %w", err)
	}
	defer os.RemoveAll(work)
	m := maker{Options: o, built: filepath.Join(work, "build"), dir: filepath.Join(work, "files")}
	if err := m.build(ctx); err != nil {
		return nil, err
	}
	for _, step := range []func() error{m.images, m.trust, m.others, func() error { return m.write(NotesFile, notes) }, m.sums, m.verify} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("make release: %w", err)
		}
	}
	// Between the two there is a moment without the folder: nobody but us looks at it yet.
	if err := os.RemoveAll(out); err != nil {
		return nil, fmt.Errorf("make release: %w", err)
	}
	if err := os.Rename(m.dir, out); err != nil {
		return nil, fmt.Errorf("make release: %w", err)
	}
	return m.names(out)
}

// replaceable refuses a folder that holds anything but a release: it would be removed.
func replaceable(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, SumsFile))
	}
	if err != nil {
		return fmt.Errorf("%s is not a release, and would be replaced: choose another folder (%w)", dir, err)
	}
	return nil
}

// maker is one release in the making.
type maker struct {
	Options
	built, dir string
	ring       keys.Ring
	manifest   builder.Manifest
}

func (m *maker) build(ctx context.Context) error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return fmt.Errorf("make release: %w", err)
	}
	b := m.Build
	b.Version, b.Out, b.Release, b.Bundle = m.Version, m.built, true, &m.Update
	if b.Keys.Dir == "" && b.DevelopmentKeys { // the same as Build would take
		ring, _, err := keys.Development(b.KeyDir)
		if err != nil {
			return err
		}
		b.Keys.Dir = ring.Dir
	}
	m.ring = b.Keys
	var err error
	m.manifest, err = b.Build(ctx)
	return err
}

// name is that of a file about this version and flavour.
func (m *maker) name(suffix string) string {
	return "ratchet-" + m.Version + "-" + m.Build.Flavour + suffix
}

func (m *maker) write(name string, data []byte) error {
	return os.WriteFile(filepath.Join(m.dir, name), data, 0o644)
}

// images moves over what the build made and compresses the disk.
func (m *maker) images() error {
	for from, suffix := range map[string]string{builder.SignedFile: ".efi", builder.BundleFile: ".bundle", builder.SBOMFile: ".spdx.json"} {
		err := os.Rename(filepath.Join(m.built, from), filepath.Join(m.dir, m.name(suffix)))
		if from == builder.SBOMFile && errors.Is(err, os.ErrNotExist) {
			continue // of a binary that was given
		}
		if err != nil {
			return err
		}
	}
	m.manifest.Seconds = 0 // the one thing in it that is not about the image
	b, err := json.MarshalIndent(m.manifest, "", "  ")
	if err != nil {
		return err
	}
	if err := m.write(m.name(".image.json"), append(b, '\n')); err != nil {
		return err
	}
	from, err := os.Open(filepath.Join(m.built, builder.DiskFile))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(filepath.Join(m.dir, m.name(".img.zst")))
	if err != nil {
		return err
	}
	return errors.Join(builder.Compress(to, from), to.Close())
}

// trust writes what somebody checks the release with, enrolls, and builds it again with.
func (m *maker) trust() error {
	files, err := m.ring.PublicFiles()
	if err != nil {
		return err
	}
	for name, data := range files {
		if err := m.write(name, data); err != nil {
			return err
		}
	}
	return nil
}

// others are not about the appliance, but of the same source.
func (m *maker) others() error {
	for name, data := range m.Others {
		if err := m.write(name, data); err != nil {
			return err
		}
	}
	return nil
}

// sums writes and signs the list, in the form that sha256sum -c reads.
func (m *maker) sums() error {
	names, err := m.names(m.dir)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, name := range names {
		sum, err := sum(filepath.Join(m.dir, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sum, name)
	}
	if err := m.write(SumsFile, b.Bytes()); err != nil {
		return err
	}
	key, err := m.ring.Signer(keys.Bundle)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(b.Bytes())
	sig, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("sign %s: %w", SumsFile, err)
	}
	return m.write(SignatureFile, sig)
}

// verify looks at the files as somebody would who downloaded them.
func (m *maker) verify() error {
	cert, err := m.ring.Certificate(keys.SecureBoot)
	if err != nil {
		return err
	}
	trusted, err := m.ring.TrustedPEM(keys.Bundle)
	if err != nil {
		return err
	}
	bundleKeys, err := bundle.ParseKeys(trusted)
	if err != nil {
		return err
	}
	c := builder.Check{Cert: cert, Manifest: &m.manifest, DevelopmentKeys: m.Build.DevelopmentKeys, BundleKeys: bundleKeys}
	for _, suffix := range []string{".efi", ".bundle", ".img.zst"} {
		r, err := builder.Inspect(filepath.Join(m.dir, m.name(suffix)))
		if err == nil {
			err = builder.Verify(r, c)
		}
		if err != nil {
			return fmt.Errorf("%s is refused: %w", m.name(suffix), err)
		}
	}
	return nil
}

func (m *maker) names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names, nil
}

func sum(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}
