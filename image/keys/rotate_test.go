package keys

import (
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func trusted(t *testing.T, r Ring, role Role) []string {
	t.Helper()
	texts, err := r.TrustedPEM(role)
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

func public(t *testing.T, r Ring, role Role) string {
	t.Helper()
	text, err := r.PublicPEM(role)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func mustPublic(t *testing.T, r Ring, role Role) crypto.PublicKey {
	t.Helper()
	pub, err := r.Public(role)
	if err != nil {
		t.Fatal(err)
	}
	return pub
}

// TestRotatePolicy: images go on naming the pair that boxes are sealed to, and the spare signs.
func TestRotatePolicy(t *testing.T) {
	r := development(t)
	pair := trusted(t, r, Policy)
	if pair[0] != public(t, r, Policy) || pair[1] != public(t, r, PolicySpare) || len(pair) != 2 {
		t.Fatal("the pair is not the key and its spare")
	}
	if err := r.Rotate(Policy, "Example", ""); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(trusted(t, r, Policy), pair) {
		t.Error("after the rotation images name another pair than boxes are sealed to")
	}
	if public(t, r, Policy) != pair[1] {
		t.Error("the spare does not sign")
	}
	spare := public(t, r, PolicySpare)
	if slices.Contains(pair, spare) {
		t.Error("no new spare was made")
	}
	if err := r.Rotate(Policy, "Example", ""); err == nil || !strings.Contains(err.Error(), "image keys drop policy") {
		t.Errorf("rotated twice: %v", err)
	}
	if err := r.Drop(Policy); err != nil {
		t.Fatal(err)
	}
	if want := []string{pair[1], spare}; !slices.Equal(trusted(t, r, Policy), want) {
		t.Error("after the drop images do not name the new pair")
	}
	if err := r.Drop(Policy); err == nil {
		t.Error("dropped twice")
	}
}

// TestRotate: the other keys are trusted beside the one before.
func TestRotate(t *testing.T) {
	for _, role := range []Role{SecureBoot, Bundle, Plugin, Owner} {
		r := development(t)
		before := public(t, r, role)
		if err := r.Rotate(role, "Example", ""); err != nil {
			t.Fatal(err)
		}
		after := public(t, r, role)
		if want := []string{after, before}; after == before || !slices.Equal(trusted(t, r, role), want) {
			t.Errorf("%s: the old key is not trusted behind the new one", role)
		}
		if _, err := r.Signer(role.old()); err != nil {
			t.Errorf("%s: the old key cannot sign any more: %v", role, err)
		}
		// What boxes take that know only the old key is signed by it, beside the new ring.
		with := Ring{Dir: r.Dir, URIs: map[Role]string{role: filepath.Join(r.Dir, role.old().keyFile())}}
		if s, err := with.Signer(role); err != nil || !same(s.Public(), mustPublic(t, r, role.old())) {
			t.Errorf("%s: named by its file the old key does not sign: %v", role, err)
		}
		if role.certified() {
			if id, err := with.Identity(role); err != nil || !same(id.Cert.PublicKey, id.Key.Public()) {
				t.Errorf("%s: the old key signs under another certificate: %v", role, err)
			}
			if both, err := with.Certificates(role); err != nil || len(both) != 2 || both[0].Equal(both[1]) || same(both[0].PublicKey, mustPublic(t, r, role.old())) {
				t.Errorf("%s: firmware is not to believe both certificates: %v", role, err)
			}
		}
		with.URIs[role] = filepath.Join(development(t).Dir, role.keyFile())
		if _, err := with.Signer(role); err == nil {
			t.Errorf("%s: anybody's key signs", role)
		}
		if err := r.Drop(role); err != nil {
			t.Fatal(err)
		}
		if got := trusted(t, r, role); !slices.Equal(got, []string{after}) {
			t.Errorf("%s: %d keys trusted after the drop", role, len(got))
		}
	}
	if err := development(t).Rotate(PolicySpare, "Example", ""); err == nil {
		t.Error("the spare was rotated by itself")
	}
	if err := development(t).Rotate(PlatformKey, "Example", ""); err == nil {
		t.Error("a key was rotated that is not there")
	}
}

// TestDetached has the digests signed by openssl, which knows nothing of us.
func TestDetached(t *testing.T) {
	r := development(t)
	r.Detach = filepath.Join(t.TempDir(), "signing")
	digest := sha256.Sum256([]byte("message"))
	for _, role := range []Role{SecureBoot, Policy} {
		key := filepath.Join(t.TempDir(), "offline.key")
		if err := os.Rename(filepath.Join(r.Dir, role.keyFile()), key); err != nil {
			t.Fatal(err)
		}
		if _, err := (Ring{Dir: r.Dir}).Signer(role); err == nil || !strings.Contains(err.Error(), "--detach") {
			t.Errorf("%s without a private half: %v", role, err)
		}
		s, err := r.Signer(role)
		if err != nil {
			t.Fatal(err)
		}
		var wanted *Wanted
		if _, err := s.Sign(nil, digest[:], crypto.SHA256); !errors.As(err, &wanted) || wanted.Role != role {
			t.Fatalf("%s: %v, want a request", role, err)
		}
		out := key + ".sig"
		args := []string{"pkeyutl", "-sign", "-inkey", key, "-in", wanted.File, "-out", out, "-pkeyopt", "digest:sha256"}
		if b, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl: %v\n%s", err, b)
		}
		sig, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Attach(r.Detach, []byte("no signature")); !errors.Is(err, ErrForeignSignature) {
			t.Errorf("foreign signature: %v", err)
		}
		for name, form := range forms(t, role, sig) {
			if q, err := Attach(r.Detach, form); err != nil || q.Role != role {
				t.Errorf("%s, %s: %+v %v", role, name, q, err)
			}
			if got, err := s.Sign(nil, digest[:], crypto.SHA256); err != nil || string(got) != string(sig) {
				t.Errorf("%s, %s: attached signature is not given: %v", role, name, err)
			}
		}
		other := sha256.Sum256([]byte("another message"))
		if _, err := s.Sign(nil, other[:], crypto.SHA256); !errors.As(err, &wanted) {
			t.Errorf("%s: a signature was given for another message: %v", role, err)
		}
	}
	if _, err := Attach(t.TempDir(), []byte("x")); err == nil || !strings.Contains(err.Error(), "no request") {
		t.Errorf("no request: %v", err)
	}
}

// forms are the encodings that signing tools write.
func forms(t *testing.T, role Role, sig []byte) map[string][]byte {
	t.Helper()
	m := map[string][]byte{"raw": sig, "base64": []byte(base64.StdEncoding.EncodeToString(sig) + "\n")}
	if role.certified() {
		return m
	}
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &pair); err != nil {
		t.Fatal(err)
	}
	m["side by side"] = append(pair.R.FillBytes(make([]byte, 32)), pair.S.FillBytes(make([]byte, 32))...)
	return m
}
