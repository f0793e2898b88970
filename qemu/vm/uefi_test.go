package vm

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// application is some EFI application that anybody can install and nobody signed: systemd-boot. Without anything to
// boot, its menu has this one entry.
const (
	application = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
	itsWords    = "Reboot Into Firmware Interface"
)

// TestSecureBoot: of two machines with our certificate enrolled, the one with the unsigned application must not
// run it, and the one with the signed application must. Without the second, a machine that boots nothing at all
// would pass.
func TestSecureBoot(t *testing.T) {
	cert, key := signer(t)
	for name, signed := range map[string]bool{"unsigned": false, "signed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // half of a UEFI boot is waiting
			dir := t.TempDir()
			esp := filepath.Join(dir, "esp", "EFI", "BOOT")
			if err := os.MkdirAll(esp, 0o755); err != nil {
				t.Fatal(err)
			}
			target := filepath.Join(esp, "BOOTX64.EFI")
			if signed {
				tool(t, "sbsign", "--key", key, "--cert", cert, "--output", target, application)
			} else {
				tool(t, "cp", application, target)
			}
			pemCert, err := os.ReadFile(cert)
			if err != nil {
				t.Fatal(err)
			}
			m := run(t, Config{
				Name: "secureboot-" + name, Dir: dir, Memory: "256M",
				Firmware: UEFI{SecureBoot: true, Cert: pemCert},
				// QEMU presents the folder as a FAT disk.
				Disks: []Disk{{Path: "fat:" + filepath.Join(dir, "esp"), ReadOnly: true}},
			})
			got, err := m.Expect(bounded(t, 90*time.Second), "Access Denied|"+itsWords)
			if err != nil {
				t.Fatal(err)
			}
			if ran := got.Groups[0] == itsWords; ran != signed {
				t.Errorf("firmware said %q; the application ran: %v, signed: %v", got, ran, signed)
			}
			cpu, _ := m.CPUTime()
			t.Logf("after %s, %s of CPU: %s", got.At.Round(time.Millisecond), cpu, got.Text)
		})
	}
}

// TestKeptVariables: what persists of a machine must not quietly switch Secure Boot off, or keep a signer that is
// no longer the one asked for.
func TestKeptVariables(t *testing.T) {
	secure := func() UEFI {
		path, _ := signer(t)
		cert, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return UEFI{SecureBoot: true, Cert: cert}
	}
	mine, other := secure(), secure()
	for name, tc := range map[string]struct {
		first, then UEFI
		ok          bool
	}{
		"the same":            {mine, mine, true},
		"another certificate": {mine, other, false},
		"made without":        {UEFI{}, mine, false},
		"no longer asked for": {mine, UEFI{}, true}, // verification stays on: the variables decide
	} {
		dir := t.TempDir()
		if _, _, err := flash(dir, tc.first); err != nil {
			t.Fatal(err)
		}
		if _, _, err := flash(dir, tc.then); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(bounded(t, 30*time.Second), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// signer makes a certificate and its key, as files. OVMF verifies RSA only.
func signer(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ratchet test"},
		NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2046, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k))
}
