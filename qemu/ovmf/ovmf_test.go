package ovmf

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ratchetos/ratchet/boot/enroll"
)

// vendor is nobody's.
var vendor = MustGUID("0f0e0d0c-0b0a-0908-0706-050403020100")

func template(t testing.TB) []byte {
	t.Helper()
	f, err := Find(true)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Vars)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func certificate(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), NotAfter: time.Date(2046, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestEnroll(t *testing.T) {
	image, cert := template(t), certificate(t)
	pristine := bytes.Clone(image)
	enrolled, err := Enroll(image, cert)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(image, pristine) {
		t.Error("Enroll wrote into its input")
	}
	if again, _ := Enroll(image, cert); !bytes.Equal(again, enrolled) {
		t.Error("two runs differ")
	}
	s, err := Parse(enrolled)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(cert)
	for name, vendor := range map[string]GUID{"PK": globalVariable, "KEK": globalVariable, "db": imageSecurity} {
		v, ok := s.Get(name, vendor)
		if !ok {
			t.Fatalf("%s is missing", name)
		}
		if v.Attributes != 0x27 || !v.Timestamp.Equal(time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)) {
			t.Errorf("%s: attributes %#x, timestamp %s", name, v.Attributes, v.Timestamp)
		}
		certs, err := enroll.Certificates(v.Data)
		if err != nil {
			t.Fatal(err)
		}
		if len(certs) != 1 || !bytes.Equal(certs[0].Raw, block.Bytes) {
			t.Errorf("%s holds %d certificates, want ours alone", name, len(certs))
		}
	}
	if v, ok := s.Get("SecureBootEnable", secureBootEnable); !ok || !bytes.Equal(v.Data, []byte{1}) {
		t.Errorf("SecureBootEnable: %v %v", v.Data, ok)
	}
	for _, tc := range []struct {
		what        string
		image, cert []byte
		want        bool
	}{{"same", enrolled, cert, true}, {"another certificate", enrolled, certificate(t), false}, {"template", image, cert, false}} {
		if got, err := Enrolled(tc.image, tc.cert); got != tc.want || err != nil {
			t.Errorf("%s: enrolled %v, %v", tc.what, got, err)
		}
	}
	// Enrolling again replaces: no name may be live twice.
	twice, err := Enroll(enrolled, cert)
	if err != nil {
		t.Fatal(err)
	}
	s2, err := Parse(twice)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := len(s.Variables()), len(s2.Variables()); a != b {
		t.Errorf("%d live variables after one enrolment, %d after two", a, b)
	}
}

func TestEnrollRefusesCertificate(t *testing.T) {
	image := template(t)
	for name, cert := range map[string][]byte{
		"empty": nil, "not PEM": []byte("x"),
		"a key":   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}),
		"not DER": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}),
	} {
		if _, err := Enroll(image, cert); err == nil {
			t.Errorf("%s: enrolled", name)
		}
	}
}

// TestDebianKeys reads a store that the distribution filled by running the firmware itself.
func TestDebianKeys(t *testing.T) {
	b, err := os.ReadFile(Dir + "/OVMF_VARS_4M.ms.fd")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	db, ok := s.Get("db", imageSecurity)
	if !ok {
		t.Fatal("no db in Debian's store with Microsoft's keys")
	}
	certs, err := enroll.Certificates(db.Data)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range certs {
		names = append(names, c.Subject.CommonName)
	}
	if !strings.Contains(strings.Join(names, ", "), "Microsoft") {
		t.Errorf("certificates in db: %q, want Microsoft's", names)
	}
}

func TestSetAndDelete(t *testing.T) {
	s, err := Parse(template(t))
	if err != nil {
		t.Fatal(err)
	}
	before := s.Variables()
	for _, value := range []string{"first", "a longer second"} {
		if err := s.Set(Variable{Name: "Näme", Vendor: vendor, Attributes: NonVolatile, Data: []byte(value)}); err != nil {
			t.Fatal(err)
		}
		back, err := Parse(s.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.Variables(), back.Variables()); diff != "" {
			t.Fatalf("after a round trip:\n%s", diff)
		}
		if v, ok := back.Get("Näme", vendor); !ok || string(v.Data) != value {
			t.Fatalf("got %q %v, want %q", v.Data, ok, value)
		}
	}
	if !s.Delete("Näme", vendor) || s.Delete("Näme", vendor) {
		t.Fatal("a variable must be deletable exactly once")
	}
	back, err := Parse(s.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, back.Variables()); diff != "" {
		t.Fatalf("deleted variable is back:\n%s", diff)
	}
}

func TestFull(t *testing.T) {
	s, err := Parse(template(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		err = s.Set(Variable{Name: strings.Repeat("n", i+1), Vendor: vendor, Data: make([]byte, 8192)})
		if err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("got %v, want ErrFull", err)
	}
	if _, err := Parse(s.Bytes()); err != nil {
		t.Fatalf("a full store does not parse: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	good := template(t)
	for name, spoil := range map[string]func(b []byte) []byte{
		"empty":          func([]byte) []byte { return nil },
		"short":          func(b []byte) []byte { return b[:60] },
		"no signature":   func(b []byte) []byte { b[volumeSignature] = 'x'; return b },
		"checksum":       func(b []byte) []byte { b[50]++; return b },
		"cut":            func(b []byte) []byte { return b[:4096] },
		"another store":  func(b []byte) []byte { b[72]++; return b },
		"not formatted":  func(b []byte) []byte { b[72+20] = 0xFF; return b },
		"store too long": func(b []byte) []byte { le.PutUint32(b[72+16:], 1<<31); return b },
		"not erased":     func(b []byte) []byte { b[72+100000] = 0; return b },
		"name too long": func(b []byte) []byte {
			le.PutUint16(b[100:], variableStart)
			le.PutUint32(b[100+36:], 0xFFFFFFFF)
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse(spoil(bytes.Clone(good))); !errors.Is(err, ErrFormat) {
				t.Fatalf("got %v, want ErrFormat", err)
			}
		})
	}
}

func TestFindNamesPackage(t *testing.T) {
	if _, err := findIn(t.TempDir(), true); err == nil || !strings.Contains(err.Error(), "apt-get install ovmf") {
		t.Fatalf("got %v, want the package to install", err)
	}
}

func TestGUID(t *testing.T) {
	const text = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	g, err := ParseGUID(text)
	if err != nil || g.String() != text || g[0] != 0x61 {
		t.Fatalf("%x %s %v", g[:], g, err)
	}
	for _, bad := range []string{"", "8be4df61", text + "0", strings.ReplaceAll(text, "-", ""), "zbe4df61-93ca-11d2-aa0d-00e098032b8c"} {
		if _, err := ParseGUID(bad); err == nil {
			t.Errorf("parsed %q", bad)
		}
	}
}

// FuzzParse: any bytes parse or fail; what parses can be changed and parsed again with the same result.
func FuzzParse(f *testing.F) {
	f.Add(small(nil))
	f.Add(small(encode(Variable{Name: "PK", Vendor: globalVariable, Attributes: 0x27, Data: enroll.Lists(&x509.Certificate{Raw: []byte{1, 2}})})))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		for _, v := range s.Variables() {
			_, _ = enroll.Certificates(v.Data)
		}
		if s.Set(Variable{Name: "x", Vendor: vendor, Data: []byte{1}}) != nil {
			return
		}
		back, err := Parse(s.Bytes())
		if err != nil {
			t.Fatalf("what we wrote does not parse: %v", err)
		}
		if v, ok := back.Get("x", vendor); !ok || !bytes.Equal(v.Data, []byte{1}) {
			t.Fatal("what we wrote is not there")
		}
	})
}

// small is a valid store of 512 bytes, so that the fuzzer works on headers and not on padding.
func small(vars []byte) []byte {
	b := bytes.Repeat([]byte{0xFF}, 512)
	clear(b[:100])
	le.PutUint64(b[volumeLength:], 512)
	copy(b[volumeSignature:], "_FVH")
	le.PutUint16(b[volumeHeaderLen:], volumeHeaderMin)
	var sum uint16
	for i := 0; i < volumeHeaderMin; i += 2 {
		sum += le.Uint16(b[i:])
	}
	le.PutUint16(b[50:], -sum)
	copy(b[72:], storeGUID[:])
	le.PutUint32(b[72+16:], 512-72)
	b[72+20], b[72+21] = storeFormatted, storeHealthy
	copy(b[100:], vars)
	return b
}
