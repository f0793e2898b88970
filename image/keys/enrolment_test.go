package keys

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/boot/enroll"
)

func born(t *testing.T, update []byte) time.Time {
	t.Helper()
	u, err := enroll.ParseUpdate(update)
	if err != nil {
		t.Fatal(err)
	}
	return u.Time
}

// TestEnrolment: the updates hold the ring's certificates and are made once, so that PK can be in a
// safe; a rotated Secure Boot key comes before the one that is still believed.
func TestEnrolment(t *testing.T) {
	r, err := Create(filepath.Join(t.TempDir(), "own"), "Example")
	if err != nil {
		t.Fatal(err)
	}
	one, err := r.Enrolment()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file []byte
		role Role
	}{"PK": {one.PK, PlatformKey}, "KEK": {one.KEK, ExchangeKey}, "db": {one.DB, SecureBoot}} {
		u, err := enroll.ParseUpdate(c.file)
		if err != nil {
			t.Fatal(err)
		}
		certs, err := enroll.Certificates(u.Value)
		if err != nil {
			t.Fatal(err)
		}
		want, err := r.Certificate(c.role)
		if err != nil || len(certs) != 1 || !certs[0].Equal(want) || len(u.Signature) == 0 {
			t.Errorf("%s holds %d certificates, signature of %d bytes (%v)", name, len(certs), len(u.Signature), err)
		}
	}
	for _, name := range []string{"pk.key", "kek.key"} {
		if err := os.Rename(filepath.Join(r.Dir, name), filepath.Join(t.TempDir(), name)); err != nil {
			t.Fatal(err)
		}
	}
	two, err := r.Enrolment()
	if err != nil || !bytes.Equal(one.PK, two.PK) || !bytes.Equal(one.DB, two.DB) {
		t.Errorf("with PK and KEK in a safe: %v", err)
	}
	if err := r.Rotate(SecureBoot, "Example", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Enrolment(); err == nil {
		t.Error("db changed without KEK")
	}

	dev := development(t) // one key is all three
	if err := dev.Rotate(SecureBoot, "Example", ""); err != nil {
		t.Fatal(err)
	}
	f, err := dev.Enrolment()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file []byte
		want int
	}{"PK": {f.PK, 1}, "KEK": {f.KEK, 2}, "db": {f.DB, 2}} {
		u, err := enroll.ParseUpdate(c.file)
		if err != nil {
			t.Fatal(err)
		}
		if certs, err := enroll.Certificates(u.Value); err != nil || len(certs) != c.want {
			t.Errorf("%s after a rotation: %d certificates, want %d (%v)", name, len(certs), c.want, err)
		}
	}
	if err := dev.Drop(SecureBoot); err != nil {
		t.Fatal(err)
	}
	dropped, err := dev.Enrolment()
	if err != nil {
		t.Fatal(err)
	}
	if a, b := born(t, f.DB), born(t, dropped.DB); !b.After(a) {
		t.Errorf("firmware refuses db without the old certificate: it is of %v, the one before of %v", b, a)
	}
}
