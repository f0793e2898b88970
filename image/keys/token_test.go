package keys

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// softHSM is where Debian's package softhsm2 puts its library.
const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

const testPIN = "5678"

// token makes a software token with a P-256 key "policy" and an RSA key "secureboot".
func token(t testing.TB) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nlog.level = ERROR\n", dir), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	t.Setenv(EnvModule, softHSM)
	t.Setenv(EnvPIN, testPIN)
	command(t, "softhsm2-util", "--init-token", "--free", "--label", "ratchet", "--so-pin", "1234", "--pin", testPIN)
	for i, key := range []struct{ label, kind string }{{"policy", "EC:prime256v1"}, {"secureboot", "rsa:2048"}} {
		command(t, tool, "--module", softHSM, "--token-label", "ratchet", "--login", "--pin", testPIN,
			"--keypairgen", "--key-type", key.kind, "--label", key.label, "--id", fmt.Sprintf("0%d", i+1))
	}
}

func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s(apt install opensc softhsm2)", name, strings.Join(args, " "), err, out)
	}
}

func TestToken(t *testing.T) {
	token(t)
	r := Ring{Dir: t.TempDir()}
	digest := sha256.Sum256([]byte("message"))
	for role, uri := range map[Role]string{
		SecureBoot: "pkcs11:token=ratchet;object=secureboot;type=private",
		Policy:     "pkcs11:token=ratchet;id=%01",
	} {
		if err := r.Adopt(role, uri, "Example"); err != nil {
			t.Fatal(err)
		}
		s, err := r.Signer(role) // by the URI in its file
		if err != nil {
			t.Fatal(err)
		}
		sig, err := s.Sign(nil, digest[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		pub, err := r.Public(role)
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(pub, digest[:], sig); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
	if cert, err := r.Certificate(SecureBoot); err != nil || cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil {
		t.Errorf("certificate made with the token: %v", err)
	}
	if err := r.Adopt(Policy, "pkcs11:object=policy", "Example"); err == nil || !strings.Contains(err.Error(), "has one already") {
		t.Errorf("adopted twice: %v", err)
	}
	if err := r.Adopt(Bundle, "pkcs11:object=secureboot", "Example"); err == nil || !strings.Contains(err.Error(), "not P-256") {
		t.Errorf("RSA for P-256: %v", err)
	}
	// A rotation that is refused leaves the key in its place.
	file := filepath.Join(r.Dir, "new.key")
	private, _, err := pair(SecureBoot, "Example")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	for uri, says := range map[string]string{
		"pkcs11:object=policy": "not RSA-2048", "pkcs11:object=nobody": "not on the token", file: "does not begin",
	} {
		err := r.Rotate(SecureBoot, "Example", uri)
		if err == nil || !strings.Contains(err.Error(), says) || r.Has(SecureBoot.old()) {
			t.Errorf("rotated to %s: %v, want an error that says %q", uri, err, says)
		}
		if _, err := r.Signer(SecureBoot); err != nil {
			t.Errorf("after a rotation to %s was refused: %v", uri, err)
		}
	}
	for name, c := range map[string]struct{ uri, pin, says string }{
		"wrong PIN":  {"pkcs11:token=ratchet;object=policy", "0000", "CKR_PIN_INCORRECT"},
		"no PIN":     {"pkcs11:token=ratchet;object=policy", "", EnvPIN},
		"no key":     {"pkcs11:token=ratchet;object=nobody", testPIN, "not on the token"},
		"other key":  {"pkcs11:token=ratchet;object=policy;id=%02", testPIN, "not on the token"},
		"no token":   {"pkcs11:token=nobody;object=policy", testPIN, "pkcs11-tool"},
		"no library": {"pkcs11:object=policy?module-path=/nonexistent.so", testPIN, "pkcs11-tool"},
	} {
		t.Setenv(EnvPIN, c.pin)
		s, err := openURI(c.uri)
		if err == nil {
			_, err = s.Sign(nil, digest[:], crypto.SHA256)
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.says)
		}
	}
}

func TestURI(t *testing.T) {
	for uri, want := range map[string]string{
		"pkcs11:object=policy":                                     "",
		"pkcs11:token=My%20HSM;id=%01%02;type=private":             "",
		"pkcs11:object=a?module-path=/lib/x.so&pin-source=file:/p": "",
		"file:/etc/passwd":                                         "does not begin",
		"pkcs11:token=a":                                           "names no key",
		"pkcs11:":                                                  "names no key",
		"pkcs11:object=a;serial=3":                                 "serial",
		"pkcs11:object=a;object=b":                                 "twice",
		"pkcs11:object=":                                           "empty",
		"pkcs11:object=a%zz":                                       "object",
		"pkcs11:object=a%00":                                       "zero byte",
		"pkcs11:object=a;type=cert":                                "type",
		"pkcs11:object=a?pin-value=1&pin-source=x":                 "exclude",
	} {
		_, err := parseURI(uri)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", uri, err)
		case want != "" && (!errors.Is(err, ErrURI) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want an error that says %q", uri, err, want)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{
		"pkcs11:token=My%20HSM;id=%01%02;type=private", "pkcs11:object=a?module-path=/lib/x.so&pin-source=file:/p",
		"pkcs11:object=a;object=b", "pkcs11:", "pkcs11:=;=?=&=", "file:x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := parseURI(s); err == nil && k.Object == "" && len(k.ID) == 0 {
			t.Error("a URI that names no key was read")
		}
	})
}
