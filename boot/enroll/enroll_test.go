package enroll

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ratchetos/ratchet/hw/pci"
)

var birthday = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

func certificate(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: birthday}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// board is firmware as far as an enrolment sees it: in setup mode it takes keys and strips their
// authentication, and PK ends the mode.
type board struct {
	vars  map[string][]byte
	wrote []string
	fails string // variable that cannot be written
	deaf  bool   // takes PK and stays in setup mode
}

func (b *board) Get(name, _ string) ([]byte, error) {
	if v, ok := b.vars[name]; ok {
		return v, nil
	}
	return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

func (b *board) SetAs(name, vendor string, attributes uint32, value []byte) error {
	if name == b.fails {
		return errors.New("write-protected")
	}
	if b.vars["SetupMode"][0] != 1 || attributes != 0x27 || vendors[vendor] == [16]byte{} {
		return errors.New("refused")
	}
	u, err := ParseUpdate(value)
	if err != nil {
		return err
	}
	if name == "PK" && len(u.Signature) == 0 {
		return errors.New("unsigned")
	}
	b.vars[name] = u.Value
	b.wrote = append(b.wrote, name)
	if name == "PK" && !b.deaf {
		b.vars["SetupMode"] = []byte{0}
	}
	return nil
}

func files(t testing.TB) Files {
	f := func(name string) []byte {
		return Update{Time: birthday, Signature: []byte("signed"), Value: Lists(certificate(t, name))}.Bytes()
	}
	return Files{PK: f("our PK"), KEK: f("our KEK"), DB: f("our db")}
}

func inSetup() *board { return &board{vars: map[string][]byte{"SetupMode": {1}}} }

func TestEnroll(t *testing.T) {
	b, f := inSetup(), files(t)
	p, err := New(b, f, Options{ROMs: []string{"a", "b", "c", "d", "e"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(b.wrote) > 0 {
		t.Fatal("a plan wrote something")
	}
	lines := strings.Join(p.Lines(), "\n")
	for _, s := range []string{`db   "our db", SHA-256 `, `KEK  "our KEK"`, `PK   "our PK"`} {
		if !strings.Contains(lines, s) {
			t.Errorf("no %q in\n%s", s, lines)
		}
	}
	if w := strings.Join(p.Warnings, "\n"); !strings.Contains(w, "5 devices") || !strings.Contains(w, "a, b, c, d and 1 more") {
		t.Errorf("warnings: %s", w)
	}
	if err := p.Apply(b); err != nil {
		t.Fatal(err)
	}
	if want := []string{"db", "KEK", "PK"}; !slices.Equal(b.wrote, want) {
		t.Errorf("wrote %v, want %v: PK ends setup mode", b.wrote, want)
	}
	if _, err := New(b, f, Options{}); !errors.Is(err, ErrEnrolled) {
		t.Errorf("again: %v", err)
	}
	if _, err := New(b, files(t), Options{}); !errors.Is(err, ErrUserMode) {
		t.Errorf("another image: %v", err)
	}
}

func TestKeepFirmware(t *testing.T) {
	b := inSetup()
	b.vars["dbDefault"] = Lists(certificate(t, "Maker"), certificate(t, "Microsoft"))
	b.vars["dbxDefault"] = Lists(certificate(t, "Revoked"))
	p, err := New(b, files(t), Options{KeepFirmware: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(b); err != nil {
		t.Fatal(err)
	}
	certs, err := Certificates(b.vars["db"])
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range certs {
		names = append(names, c.Subject.CommonName)
	}
	if want := []string{"our db", "Maker", "Microsoft"}; !slices.Equal(names, want) {
		t.Errorf("db holds %q, want %q", names, want)
	}
	if !bytes.Equal(b.vars["dbx"], b.vars["dbxDefault"]) {
		t.Error("what the board's maker revoked is trusted again")
	}
	bare := inSetup()
	if p, err := New(bare, files(t), Options{KeepFirmware: true}); err != nil || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "none can be kept") {
		t.Errorf("without dbDefault: %v %v", p.Warnings, err)
	}
}

func TestRefuses(t *testing.T) {
	good := files(t)
	for name, c := range map[string]struct {
		vars map[string][]byte
		f    Files
		o    Options
		want error
	}{
		"no UEFI":            {nil, good, Options{}, ErrNoUEFI},
		"odd SetupMode":      {map[string][]byte{"SetupMode": {}}, good, Options{}, ErrNoUEFI},
		"no keys":            {map[string][]byte{"SetupMode": {1}}, Files{}, Options{}, ErrNoKeys},
		"user mode":          {map[string][]byte{"SetupMode": {0}, "db": []byte("Microsoft")}, good, Options{}, ErrUserMode},
		"broken update":      {map[string][]byte{"SetupMode": {1}}, Files{PK: good.PK, KEK: good.KEK[:30], DB: good.DB}, Options{}, ErrFormat},
		"empty update":       {map[string][]byte{"SetupMode": {1}}, Files{PK: good.PK, KEK: Update{Time: birthday}.Bytes(), DB: good.DB}, Options{}, ErrFormat},
		"broken dbDefault":   {map[string][]byte{"SetupMode": {1}, "dbDefault": {1}}, good, Options{KeepFirmware: true}, ErrFormat},
		"broken dbxDefault":  {map[string][]byte{"SetupMode": {1}, "dbDefault": nil, "dbxDefault": {1}}, good, Options{KeepFirmware: true}, ErrFormat},
		"very long variable": {map[string][]byte{"SetupMode": {1}, "dbDefault": make([]byte, maxVariable+1)}, good, Options{KeepFirmware: true}, ErrFormat},
	} {
		if _, err := New(&board{vars: c.vars}, c.f, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestApplyAgain: what fails half-way leaves setup mode on and can be repeated.
func TestApplyAgain(t *testing.T) {
	f := files(t)
	for _, name := range []string{"db", "KEK", "PK"} {
		b := inSetup()
		b.fails = name
		p, err := New(b, f, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Apply(b); err == nil || !strings.Contains(err.Error(), "enroll "+name) {
			t.Errorf("%s cannot be written: %v", name, err)
		}
		if b.vars["SetupMode"][0] != 1 {
			t.Errorf("setup mode ended without %s", name)
		}
		b.fails = ""
		if p, err = New(b, f, Options{}); err == nil {
			err = p.Apply(b)
		}
		if err != nil {
			t.Errorf("again after %s failed: %v", name, err)
		}
	}
	b := inSetup()
	b.deaf = true
	p, err := New(b, f, Options{})
	if err == nil {
		err = p.Apply(b)
	}
	if err == nil || !strings.Contains(err.Error(), "still in setup mode") {
		t.Errorf("firmware that ignores PK: %v", err)
	}
}

func TestUpdate(t *testing.T) {
	u := Update{Time: birthday, Signature: []byte("signature"), Value: []byte("value")}
	got, err := ParseUpdate(u.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(u, got); diff != "" {
		t.Error(diff)
	}
	if want := "d\x00b\x00" + string(u.ToBeSigned(DB, Attributes)[4:]); string(u.ToBeSigned(DB, Attributes)) != want {
		t.Error("the name is not signed as UTF-16")
	}
	if bytes.Equal(u.ToBeSigned(DB, Attributes), u.ToBeSigned(DB, Attributes|0x40)) {
		t.Error("a signature to replace may be used to append")
	}
}

func TestROMs(t *testing.T) {
	root := t.TempDir()
	for address, class := range map[string]string{"0000:00:01.0": "0x030000", "0000:00:02.0": "0x020000"} {
		dir := filepath.Join(root, "sys/bus/pci/devices", address)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"vendor": "0x1234", "device": "0x1111", "class": class} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(root, "sys/bus/pci/devices/0000:00:01.0/rom"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ROMs(pci.Bus{Root: root})
	if want := []string{"0000:00:01.0 (display, 1234:1111)"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, want %q (%v)", got, want, err)
	}
}

func FuzzCertificates(f *testing.F) {
	good := Lists(certificate(f, "one"), certificate(f, "two"))
	f.Add(good)
	f.Add(good[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := Certificates(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again, err := Certificates(Lists(certs...))
		if err != nil || len(again) != len(certs) {
			t.Fatalf("%d certificates, %d after a round trip: %v", len(certs), len(again), err)
		}
	})
}

func FuzzParseUpdate(f *testing.F) {
	good := Update{Time: birthday, Signature: []byte("signature"), Value: []byte("value")}.Bytes()
	f.Add(good)
	f.Add(good[:headerLen])
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := ParseUpdate(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(u.Bytes(), b) {
			t.Fatal("an update was read that is not written so")
		}
	})
}
