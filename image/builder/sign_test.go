package builder

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/pcrsig"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/image/uki"
)

// release are the options of a tiny release with its update, signed by a ring.
func release(t *testing.T, r keys.Ring) Options {
	o := tiny(t, t.TempDir())
	o.Release, o.Keys, o.Bundle = true, r, &BundleOptions{}
	return o
}

func own(t *testing.T) keys.Ring {
	t.Helper()
	r, err := keys.Create(filepath.Join(t.TempDir(), "own"), "Example")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Enrolment(); err != nil {
		t.Fatal(err)
	}
	return r
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// holds checks the three signatures of a release with tools that know nothing of us.
func holds(t *testing.T, out string, r keys.Ring) {
	t.Helper()
	dir := t.TempDir()
	put := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pub := func(role keys.Role) string {
		text, err := r.PublicPEM(role)
		if err != nil {
			t.Fatal(err)
		}
		return put(string(role)+".pub", []byte(text))
	}
	signed := filepath.Join(out, SignedFile)
	run(t, "sbverify", "--cert", filepath.Join(r.Dir, "secureboot.crt"), signed)

	f, err := uki.Parse(read(t, signed))
	if err != nil {
		t.Fatal(err)
	}
	section, _ := f.Section(pcrsig.Section)
	p, err := pcrsig.Parse(section)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := p.Release().ToBeSigned()
	if err != nil {
		t.Fatal(err)
	}
	run(t, "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", pub(keys.Policy), "-in", put("policy.digest", digest[:]), "-sigfile", put("policy.sig", p.Signatures[0].Value))

	members := map[string][]byte{}
	for b := tar.NewReader(bytes.NewReader(read(t, filepath.Join(out, BundleFile)))); ; {
		h, err := b.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if members[h.Name], err = io.ReadAll(b); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "openssl", "dgst", "-sha256", "-verify", pub(keys.Bundle), "-signature", put("manifest.sig", members["manifest.sig"]), put("manifest.json", members["manifest.json"]))
	var m struct{ UKI struct{ SHA256 string } }
	if err := json.Unmarshal(members["manifest.json"], &m); err != nil || m.UKI.SHA256 != fmt.Sprintf("%x", sha256.Sum256(members["uki.efi"])) {
		t.Errorf("manifest names image %s (%v)", m.UKI.SHA256, err)
	}
	cert, err := r.Certificate(keys.SecureBoot)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Inspect(signed)
	if err == nil {
		err = Verify(report, Check{Cert: cert})
	}
	if err != nil {
		t.Error(err)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s(apt install sbsigntool openssl opensc softhsm2)", name, strings.Join(args, " "), err, out)
	}
}

// TestToken builds a release whose three keys never leave a (software) token.
func TestToken(t *testing.T) {
	const library, pin = "/usr/lib/softhsm/libsofthsm2.so", "5678"
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nlog.level = ERROR\n", dir), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	t.Setenv(keys.EnvModule, library)
	t.Setenv(keys.EnvPIN, pin)
	run(t, "softhsm2-util", "--init-token", "--free", "--label", "vendor", "--so-pin", "1234", "--pin", pin)
	all := own(t)
	r := keys.Ring{Dir: filepath.Join(t.TempDir(), "token")}
	for i, role := range []keys.Role{keys.SecureBoot, keys.Policy, keys.Bundle} {
		kind := "EC:prime256v1"
		if role == keys.SecureBoot {
			kind = "rsa:2048"
		}
		run(t, "pkcs11-tool", "--module", library, "--token-label", "vendor", "--login", "--pin", pin,
			"--keypairgen", "--key-type", kind, "--label", string(role), "--id", fmt.Sprintf("0%d", i+1))
		if err := r.Adopt(role, "pkcs11:token=vendor;object="+string(role), "Example"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"policy-spare.pub", "owner.pub"} { // in a safe, and with somebody else
		if err := os.WriteFile(filepath.Join(r.Dir, name), read(t, filepath.Join(all.Dir, name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o := release(t, r)
	build(t, o)
	holds(t, o.Out, r)
}

// TestDetached builds a release while all keys are elsewhere: each run asks for one more signature,
// since each is over something that holds the one before.
func TestDetached(t *testing.T) {
	r := own(t)
	safe := t.TempDir()
	for _, role := range []keys.Role{keys.SecureBoot, keys.Policy, keys.Bundle} {
		name := string(role) + ".key"
		if err := os.Rename(filepath.Join(r.Dir, name), filepath.Join(safe, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.Detach = filepath.Join(t.TempDir(), "signing")
	o := release(t, r)
	var asked []keys.Role
	for {
		_, err := o.Build(t.Context())
		var w *keys.Wanted
		if !errors.As(err, &w) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if asked = append(asked, w.Role); len(asked) > 3 {
			t.Fatalf("asked again and again: %v", asked)
		}
		sig := w.File + ".out"
		run(t, "openssl", "pkeyutl", "-sign", "-inkey", filepath.Join(safe, string(w.Role)+".key"), "-in", w.File, "-out", sig, "-pkeyopt", "digest:sha256")
		if _, err := keys.Attach(r.Detach, read(t, sig)); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(asked) != "[policy secureboot bundle]" {
		t.Errorf("asked for %v", asked)
	}
	holds(t, o.Out, r)
	// Signing what was built elsewhere gives the same image.
	signed, err := Sign(r, read(t, filepath.Join(o.Out, UnsignedFile)))
	if err != nil || !bytes.Equal(signed, read(t, filepath.Join(o.Out, SignedFile))) {
		t.Errorf("image sign gives another image: %v", err)
	}
}

// TestRotation: after the rotation images are signed by the old spare and name the pair that boxes know.
func TestRotation(t *testing.T) {
	r := own(t)
	before := release(t, r)
	build(t, before)
	one, err := Inspect(filepath.Join(before.Out, SignedFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Rotate(keys.Policy, "Example", ""); err != nil {
		t.Fatal(err)
	}
	after := release(t, r)
	build(t, after)
	holds(t, after.Out, r)
	two, err := Inspect(filepath.Join(after.Out, SignedFile))
	if err != nil {
		t.Fatal(err)
	}
	a, b := one.Images[0], two.Images[0]
	if strings.Join(a.Policy.PolicyKeys, "") != strings.Join(b.Policy.PolicyKeys, "") || a.PCR11 != b.PCR11 {
		t.Error("the image is another one after the rotation, not only its signature")
	}
	if _, err := Sign(own(t), read(t, filepath.Join(after.Out, UnsignedFile))); !errors.Is(err, pcrsig.ErrNoKey) {
		t.Errorf("signed with keys that the image does not believe: %v", err)
	}
}
