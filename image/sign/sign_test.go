package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/image/uki"
)

// stubPath is Debian's stub, the smallest real EFI program at hand; package systemd-boot-efi.
const stubPath = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// program is an unsigned EFI program.
func program(t testing.TB) []byte {
	t.Helper()
	stub, err := os.ReadFile(stubPath)
	if err != nil {
		t.Fatalf("%v; apt install systemd-boot-efi", err)
	}
	b, err := uki.Build(stub, uki.Content{
		OSRelease: []byte("ID=ratchet\n"), Uname: []byte("9.9"), Cmdline: []byte("quiet"),
		Initrd: bytes.Repeat([]byte("i"), 5000), Linux: bytes.Repeat([]byte("k"), 7001),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, b []byte) *uki.File {
	t.Helper()
	f, err := uki.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// identity makes a key with its certificate, in dir as files for other tools.
func identity(t testing.TB, dir string) Identity {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: dir}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		keyFile:  {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)},
		certFile: {Type: "CERTIFICATE", Bytes: der},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Identity{Key: key, Cert: cert}
}

const keyFile, certFile = "test.key", "test.crt"

func TestSignVerify(t *testing.T) {
	id := identity(t, t.TempDir())
	image := program(t)
	if err := Verify(parse(t, image), id.Cert); !errors.Is(err, ErrUnsigned) {
		t.Errorf("unsigned image: %v", err)
	}
	one, err := Image(image, id)
	if err != nil {
		t.Fatal(err)
	}
	two, err := Image(image, id)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) {
		t.Error("two signatures of one image differ")
	}
	if err := Verify(parse(t, one), id.Cert); err != nil {
		t.Error(err)
	}
	again, err := Image(one, id)
	if err != nil || !bytes.Equal(one, again) {
		t.Errorf("signing a signed image changes it: %v", err)
	}
	back, err := parse(t, one).WithCertificates(nil)
	if err != nil || !bytes.Equal(back, image) {
		t.Errorf("removing the signature does not give the unsigned image back: %v", err)
	}
	other := identity(t, t.TempDir())
	if err := Verify(parse(t, one), other.Cert); !errors.Is(err, ErrSignature) {
		t.Errorf("other certificate: %v", err)
	}
	if _, err := Image(image, Identity{Key: id.Key, Cert: other.Cert}); err == nil {
		t.Error("a key with somebody else's certificate was accepted")
	}
}

// TestChangedByte flips one byte in each part of a signed image.
func TestChangedByte(t *testing.T) {
	id := identity(t, t.TempDir())
	signed, err := Image(program(t), id)
	if err != nil {
		t.Fatal(err)
	}
	f := parse(t, signed)
	table := len(signed) - len(f.Certificates())
	for _, at := range []int{4, 0x90, f.Headers() + 10, int(f.Sections[len(f.Sections)-1].Offset), table - 1, table + 60, len(signed) - 40} {
		bad := bytes.Clone(signed)
		bad[at] ^= 1
		g, err := uki.Parse(bad)
		if err != nil {
			continue
		}
		if err := Verify(g, id.Cert); err == nil {
			t.Errorf("byte %#x changed, still verifies", at)
		}
	}
}

// TestOtherTools holds our signature against sbverify, and sbsign's against ours.
func TestOtherTools(t *testing.T) {
	dir := t.TempDir()
	id := identity(t, dir)
	key, cert := filepath.Join(dir, keyFile), filepath.Join(dir, certFile)
	image := program(t)
	signed, err := Image(image, id)
	if err != nil {
		t.Fatal(err)
	}
	ours, unsigned, theirs := filepath.Join(dir, "ours.efi"), filepath.Join(dir, "unsigned.efi"), filepath.Join(dir, "theirs.efi")
	for path, b := range map[string][]byte{ours: signed, unsigned: image} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "sbverify", "--cert", cert, ours)
	run(t, "sbsign", "--key", key, "--cert", cert, "--output", theirs, unsigned)
	b, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(parse(t, b), id.Cert); err != nil {
		t.Errorf("signature of sbsign: %v", err)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s(apt install sbsigntool)", name, strings.Join(args, " "), err, out)
	}
}

func TestRefusesOtherKeys(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Image(program(t), Identity{Key: k}); err == nil || !strings.Contains(err.Error(), "not RSA") {
		t.Errorf("ECDSA key: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	id := identity(f, f.TempDir())
	image := program(f)
	signed, err := Image(image, id)
	if err != nil {
		f.Fatal(err)
	}
	good := parse(f, signed).Certificates()
	f.Add(bytes.Clone(good))
	f.Add([]byte{8, 0, 0, 0, 0, 2, 2, 0})
	// One bit of the program differs, so nothing an attacker writes into the table may verify.
	image[int(parse(f, image).Sections[0].Offset)] ^= 1
	base := parse(f, image)
	f.Fuzz(func(t *testing.T, table []byte) {
		b, err := base.WithCertificates(table[:len(table)&^7])
		if err != nil {
			t.Fatal(err)
		}
		g, err := uki.Parse(b)
		if err == nil && Verify(g, id.Cert) == nil {
			t.Error("a changed program verifies")
		}
	})
}
