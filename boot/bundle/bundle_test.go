package bundle

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fixture is a bundle and the key it was signed with.
type fixture struct {
	key       *ecdsa.PrivateKey
	public    string
	manifest  Manifest
	sbom, uki []byte
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{key: key, sbom: []byte(`{"spdxVersion":"SPDX-2.3"}`), uki: bytes.Repeat([]byte("image "), 9000)}
	f.public = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	f.manifest = Manifest{
		Format: Format, Product: Product, Flavour: "full", Arch: "x86_64", Version: "1.2", SecurityVersion: 3,
		UKI:      File{int64(len(f.uki)), sha256.Sum256(f.uki)},
		SBOM:     File{int64(len(f.sbom)), sha256.Sum256(f.sbom)},
		Firmware: []Firmware{{Kind: "nic", Model: "e1000e", Version: "10"}},
	}
	return f
}

func (f *fixture) keys(t testing.TB) Keys {
	t.Helper()
	keys, err := ParseKeys([]string{newFixtureKey(t), f.public})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// newFixtureKey is a second key that signed nothing.
func newFixtureKey(t testing.TB) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func (f *fixture) pack(t testing.TB) []byte {
	t.Helper()
	text, err := f.manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := Sign(text, f.key)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(&b, text, sig, f.sbom, bytes.NewReader(f.uki)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// readAll is what every caller does.
func readAll(b []byte, keys Keys) (Manifest, []byte, error) {
	r, err := Open(bytes.NewReader(b), keys)
	if err != nil {
		return Manifest{}, nil, err
	}
	uki, err := r.UKI()
	if err != nil {
		return r.Manifest, nil, err
	}
	data, err := io.ReadAll(uki)
	if err == nil && !bytes.Equal(data, b[r.Offset():r.Offset()+int64(len(data))]) {
		err = errors.New("the image is not at its offset")
	}
	return r.Manifest, data, err
}

func TestRoundTrip(t *testing.T) {
	f := newFixture(t)
	m, uki, err := readAll(f.pack(t), f.keys(t))
	if err != nil || !bytes.Equal(uki, f.uki) || m.Version != "1.2" || m.Firmware[0].Model != "e1000e" {
		t.Fatalf("%+v, %d bytes, %v", m, len(uki), err)
	}
}

// TestTools does what the package comment tells people to do.
func TestTools(t *testing.T) {
	f, dir := newFixture(t), t.TempDir()
	for name, data := range map[string][]byte{"b": f.pack(t), "pub": []byte(f.public)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"tar", "xf", "b"},
		{"openssl", "dgst", "-sha256", "-verify", "pub", "-signature", "manifest.sig", "manifest.json"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, ukiName)); err != nil || !bytes.Equal(got, f.uki) {
		t.Errorf("tar unpacked %d bytes (%v)", len(got), err)
	}
}

// TestTruncated cuts the file at every length around every boundary.
func TestTruncated(t *testing.T) {
	f := newFixture(t)
	whole, keys := f.pack(t), f.keys(t)
	for n := 0; n < len(whole); n += 97 {
		if _, _, err := readAll(whole[:n], keys); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
	if _, _, err := readAll(append(whole, 0), keys); !errors.Is(err, ErrDamaged) {
		t.Errorf("one byte more: %v", err)
	}
}

// TestTampered flips bytes everywhere. Padding and the fields of tar that nothing depends on (owner, time) may go
// unnoticed; content may not.
func TestTampered(t *testing.T) {
	f := newFixture(t)
	whole, keys := f.pack(t), f.keys(t)
	for at := 0; at < len(whole); at += 53 {
		b := bytes.Clone(whole)
		b[at] ^= 1
		m, uki, err := readAll(b, keys)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrSigner) {
				t.Fatalf("byte %d: %v", at, err)
			}
			continue
		}
		if !bytes.Equal(uki, f.uki) || m.SecurityVersion != 3 {
			t.Fatalf("byte %d: accepted other content", at)
		}
	}
}

func TestOtherSigner(t *testing.T) {
	f, other := newFixture(t), newFixture(t)
	if _, _, err := readAll(f.pack(t), other.keys(t)); !errors.Is(err, ErrSigner) {
		t.Error(err)
	}
	if _, _, err := readAll(f.pack(t), nil); !errors.Is(err, ErrSigner) {
		t.Error(err)
	}
}

// TestMembers has a tar of other members, or in another order, refused.
func TestMembers(t *testing.T) {
	f := newFixture(t)
	text, err := f.manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := Sign(text, f.key)
	if err != nil {
		t.Fatal(err)
	}
	reg := func(name string, data []byte) tar.Header {
		return tar.Header{Name: name, Size: int64(len(data)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR, Mode: 0o644}
	}
	long := reg(manifestName, text)
	long.Format, long.PAXRecords = tar.FormatPAX, map[string]string{"comment": "x"}
	link := tar.Header{Name: manifestName, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd", Format: tar.FormatUSTAR}
	type member struct {
		h    tar.Header
		data []byte
	}
	good := []member{{reg(manifestName, text), text}, {reg(signatureName, sig), sig}, {reg(sbomName, f.sbom), f.sbom}, {reg(ukiName, f.uki), f.uki}}
	for name, members := range map[string][]member{
		"signature first": {good[1], good[0], good[2], good[3]},
		"no signature":    {good[0], good[2], good[3]},
		"no SBOM":         {good[0], good[1], good[3]},
		"twice":           {good[0], good[0], good[1], good[2], good[3]},
		"one more":        append(good[:4:4], member{reg("run-me", nil), nil}),
		"extended header": {{long, text}, good[1], good[2], good[3]},
		"link":            {{link, nil}, good[1], good[2], good[3]},
		"large manifest":  {{reg(manifestName, make([]byte, maxManifest+1)), make([]byte, maxManifest+1)}},
		"other SBOM":      {good[0], good[1], {reg(sbomName, sig), sig}, good[3]},
		"shorter image":   {good[0], good[1], good[2], {reg(ukiName, f.uki[1:]), f.uki[1:]}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, m := range members {
			if err := errors.Join(w.WriteHeader(&m.h), second(w.Write(m.data))); err != nil {
				t.Fatal(name, err)
			}
		}
		w.Close()
		if _, _, err := readAll(b.Bytes(), f.keys(t)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second(_ int, err error) error { return err }

func TestManifest(t *testing.T) {
	f := newFixture(t)
	good, err := f.manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, want string }{
		{`"format": 1`, `"format": 2`, "format 2"},
		{`"arch": "x86_64"`, `"arch": ""`, "empty"},
		{`"version": "1.2"`, `"version": "1\u001b[2J"`, "printable"},
		{`"security_version": 3`, `"security_version": 64`, "at most 63"},
		{`"security_version": 3`, `"security_version": -1`, "unmarshal"},
		{`"flavour"`, `"min_kernel": "7", "flavour"`, "unknown field"},
		{`"length": 54000`, `"length": 0`, "image of 0 bytes"},
		{`"length": 54000`, `"length": 99999999999`, "image of"},
		{`"sha256": "`, `"sha256": "00`, "digest of 66"},
		{"}\n", "} {}", "follows"},
	} {
		bad := strings.Replace(string(good), c.from, c.to, 1)
		if i := strings.LastIndex(string(good), c.from); c.from == "}\n" {
			bad = string(good)[:i] + c.to
		}
		if bad == string(good) {
			t.Fatalf("%s is not in the manifest:\n%s", c.from, good)
		}
		if _, err := ParseManifest([]byte(bad)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.to, err)
		}
	}
}

func TestCheck(t *testing.T) {
	f := newFixture(t)
	fits := Box{Flavour: "full", Arch: "x86_64", Floor: 3, Slot: 1 << 20, Memory: 1 << 30}
	if err := f.manifest.Check(fits); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		change func(*Manifest, *Box)
		want   error
	}{
		"product":     {func(m *Manifest, _ *Box) { m.Product = "kettle" }, ErrOther},
		"flavour":     {func(_ *Manifest, b *Box) { b.Flavour = "cloud" }, ErrOther},
		"arch":        {func(_ *Manifest, b *Box) { b.Arch = "aarch64" }, ErrOther},
		"memory":      {func(m *Manifest, _ *Box) { m.MinMemory = 2 << 30 }, ErrOther},
		"slot":        {func(_ *Manifest, b *Box) { b.Slot = 100 }, ErrOther},
		"development": {func(m *Manifest, _ *Box) { m.Development = true }, ErrOther},
		"old":         {func(_ *Manifest, b *Box) { b.Floor = 4 }, ErrOld},
	} {
		m, b := f.manifest, fits
		c.change(&m, &b)
		if err := m.Check(b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseKeys(t *testing.T) {
	for _, bad := range []string{"", "key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		if _, err := ParseKeys([]string{bad}); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// FuzzReader: nothing but what was signed comes out, and nothing panics.
func FuzzReader(f *testing.F) {
	x := newFixture(f)
	x.uki = x.uki[:700]
	x.manifest.UKI = File{700, sha256.Sum256(x.uki)}
	keys := x.keys(f)
	f.Add(x.pack(f))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, uki, err := readAll(b, keys); err == nil && !bytes.Equal(uki, x.uki) {
			t.Fatal("accepted an image that nobody signed")
		}
	})
}

// FuzzManifest: what is accepted can be written and read again.
func FuzzManifest(f *testing.F) {
	text, err := newFixture(f).manifest.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseManifest(again); err != nil {
			t.Fatal(err)
		}
	})
}
