package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func development(t testing.TB) Ring {
	t.Helper()
	r, _, err := Development(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDevelopment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	r, made, err := Development(dir)
	if want := []Role{SecureBoot, Policy, PolicySpare, Bundle, Plugin, Owner}; err != nil || !slices.Equal(made, want) {
		t.Fatalf("made %v, want %v: %v", made, want, err)
	}
	if !r.Development() {
		t.Error("a ring made by a build does not say so")
	}
	for _, role := range made {
		info, err := os.Stat(filepath.Join(dir, role.keyFile()))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", role, info, err)
		}
		pub, err := r.Public(role)
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Signer(role)
		if err != nil || !same(pub, s.Public()) {
			t.Errorf("%s: signer and public half differ: %v", role, err)
		}
	}
	if _, made, err := Development(dir); err != nil || len(made) != 0 {
		t.Errorf("second time: made %v, %v", made, err)
	}
	one, err := r.RecoveryKey()
	if err != nil {
		t.Fatal(err)
	}
	if two, err := r.RecoveryKey(); err != nil || one != two || len(one) != 39 {
		t.Errorf("recovery key %q then %q, %v", one, two, err)
	}
	for _, half := range []string{"secureboot.crt", "policy.pub", "bundle.key"} {
		path := filepath.Join(dir, half)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Development(dir); err == nil || !strings.Contains(err.Error(), "incomplete") {
			t.Errorf("without %s: %v", half, err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFirstBuilds starts several first builds at once: they must agree on the keys.
func TestFirstBuilds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	pubs := make([]string, 4)
	var wg sync.WaitGroup
	for i := range pubs {
		wg.Go(func() {
			r, _, err := Development(dir)
			if err == nil {
				pubs[i], err = r.PublicPEM(Policy)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(slices.Compact(pubs)) != 1 {
		t.Error("first builds side by side have different keys")
	}
}

func TestCreate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "own")
	r, err := Create(dir, "Example")
	if err != nil {
		t.Fatal(err)
	}
	if r.Development() {
		t.Error("own keys say they are development keys")
	}
	seen := map[string]Role{}
	for _, role := range Roles() {
		pem, err := r.PublicPEM(role)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[pem]; ok {
			t.Errorf("%s and %s are one key", role, other)
		}
		seen[pem] = role
	}
	cert, err := r.Certificate(ExchangeKey)
	if err != nil || cert.Subject.CommonName != "Example key exchange key" {
		t.Errorf("certificate of KEK: %v %v", cert, err)
	}
	if _, err := Create(dir, "Example"); err == nil || !strings.Contains(err.Error(), "another folder") {
		t.Errorf("keys made over keys: %v", err)
	}
}

// TestDeterministic: without randomness two signatures are the same bytes, so signed images are, too.
func TestDeterministic(t *testing.T) {
	r := development(t)
	digest := sha256.Sum256([]byte("message"))
	for _, role := range []Role{SecureBoot, Policy} {
		s, err := r.Signer(role)
		if err != nil {
			t.Fatal(err)
		}
		one, err := s.Sign(nil, digest[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if two, err := s.Sign(nil, digest[:], crypto.SHA256); err != nil || string(one) != string(two) {
			t.Errorf("%s: two signatures differ (%v)", role, err)
		}
	}
}

func TestRefusesKeys(t *testing.T) {
	curve, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	large := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	for name, c := range map[string]struct {
		role  Role
		spoil func(r Ring) string // and give the key's file
		says  string
	}{
		"other curve":   {Policy, func(r Ring) string { return put(t, r, "policy.key", large) }, "not P-256"},
		"other pair":    {Policy, func(r Ring) string { return filepath.Join(r.Dir, "bundle.key") }, "do not belong together"},
		"curve for RSA": {SecureBoot, func(r Ring) string { return filepath.Join(r.Dir, "bundle.key") }, "not RSA-2048"},
		"not PEM":       {Bundle, func(r Ring) string { return put(t, r, "bundle.key", []byte("secret")) }, "neither PEM"},
		"not DER": {Bundle, func(r Ring) string {
			return put(t, r, "bundle.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))
		}, "read key"},
		"nothing": {Bundle, func(r Ring) string { return "/nonexistent" }, "no such file"},
	} {
		r := development(t)
		r.URIs = map[Role]string{c.role: "file:" + c.spoil(r)}
		if _, err := r.Signer(c.role); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.says)
		}
	}
	if _, err := ParseRole("root"); err == nil || !strings.Contains(err.Error(), "policy-spare") {
		t.Errorf("unknown role: %v", err)
	}
}

func put(t *testing.T, r Ring, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(r.Dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
