package ledger

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "rewrite golden files")

func sample() *Ledger {
	return &Ledger{
		Sequence: 7, Counter: 3, Journal: Sum([]byte("journal")),
		Box:     Box{SRK: "\x00\x0bname", PCR7: Sum([]byte("7")), PCR11: Sum([]byte("11")), Policy: Sum([]byte("policy")), Image: "0.1"},
		Images:  []Image{{"A", Sum([]byte("a")), 1}, {"B", Sum([]byte("b")), 2}},
		Config:  Config{Now: Sum([]byte("now")), Before: Sum([]byte("before"))},
		Plugins: []Plugin{{"third", "1.2", Sum([]byte("p"))}},
		Devices: []Device{
			{"mac:52:54:00:12:34:56", "pci:0000:00:03.0", "nic", "", Content{Strength: StrengthVersion, Version: "10.20"}},
			{"serial:disk1", "pci:0000:00:04.0", "disk", "disk1", Content{Strength: StrengthNone}},
		},
	}
}

func sampleIntent(n uint64) Intent {
	return Intent{Number: n, Target: TargetConfig, From: OfDigest(Sum([]byte("from"))), To: OfDigest(Sum([]byte("to"))), Signer: "uid:0"}
}

// golden keeps the format: these files were written by version 1 and must stay readable.
func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	text := hex.Dump(got)
	if *rewrite {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s: the format changed (-want +got):\n%s", name, diff)
	}
	return got
}

func TestGolden(t *testing.T) {
	b, d, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	l, got, err := Decode(golden(t, "ledger.hex", b))
	if err != nil || got != d {
		t.Fatalf("decode: %v, digest %s, want %s", err, got, d)
	}
	if diff := cmp.Diff(sample(), l); diff != "" {
		t.Errorf("decode (-want +got):\n%s", diff)
	}
	b, d, err = sampleIntent(4).Encode()
	if err != nil {
		t.Fatal(err)
	}
	i, got, err := DecodeIntent(golden(t, "intent.hex", b))
	if err != nil || got != d || i != sampleIntent(4) {
		t.Fatalf("decode intent: %+v %v", i, err)
	}
}

func TestBadRecords(t *testing.T) {
	good, _, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(good) * 8 {
		b := bytes.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		if _, _, err := Decode(b); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
	}
	for n := range good {
		if _, _, err := Decode(good[:n]); err == nil {
			t.Fatalf("cut to %d bytes: accepted", n)
		}
	}
	if _, _, err := Decode(make([]byte, 100)); !errors.Is(err, ErrEmpty) {
		t.Errorf("zeros: %v", err)
	}
	newer := record{kind: kindLedger, payload: []byte("?")}.encode()
	newer[16] = 1 // an incompatible feature
	newer = reseal(newer)
	if _, _, err := Decode(newer); !errors.Is(err, ErrNewer) {
		t.Errorf("incompatible feature: %v", err)
	}
	later := bytes.Clone(good)
	later[12] = 0x80 // a compatible feature
	if _, _, err := Decode(reseal(later)); err != nil {
		t.Errorf("compatible feature: %v", err)
	}
}

func reseal(b []byte) []byte {
	sum := checksum(b, b[headerSize:])
	b[36], b[37], b[38], b[39] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	return b
}

func TestTooLong(t *testing.T) {
	l := sample()
	l.Devices[0].ID = strings.Repeat("x", 256)
	if _, _, err := l.Encode(); err == nil {
		t.Error("a string of 256 bytes was encoded")
	}
	i := sampleIntent(1)
	i.Target, i.Signer = strings.Repeat("t", 255), strings.Repeat("s", 255)
	i.From = Content{Strength: StrengthVersion, Version: strings.Repeat("f", 255)}
	i.To = Content{Strength: StrengthVersion, Version: strings.Repeat("t", 255)}
	if _, _, err := i.Encode(); err == nil {
		t.Error("an intent longer than its entry was encoded")
	}
}

func TestContentMatches(t *testing.T) {
	version := func(v string) Content { return Content{Strength: StrengthVersion, Version: v} }
	a, b := OfDigest(Sum([]byte("a"))), OfDigest(Sum([]byte("b")))
	none, absent := Content{Strength: StrengthNone}, Content{}
	for _, c := range []struct {
		want, seen Content
		match      bool
	}{
		{a, a, true},
		{a, b, false},
		{a, none, false},
		{a, absent, false},
		{version("1"), version("1"), true},
		{version("1"), version("2"), false},
		{none, version("2"), true},
		{none, absent, false},
		{absent, absent, true},
		{absent, a, false},
	} {
		if c.want.Matches(c.seen) != c.match {
			t.Errorf("%s matches %s = %v", c.want, c.seen, !c.match)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, _, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum would keep the fuzzer out of the payload: it is made right first.
		if len(b) >= headerSize {
			b = reseal(bytes.Clone(b))
		}
		l, d, err := Decode(b)
		if err != nil {
			return
		}
		// Compatible features are of the future; this version writes none.
		b[12], b[13], b[14], b[15] = 0, 0, 0, 0
		again, d2, err := l.Encode()
		if err != nil || !bytes.Equal(reseal(b), again) {
			t.Fatalf("decoded but encodes to other bytes: %v\n%x\n%x (%s %s)", err, b, again, d, d2)
		}
	})
}

func FuzzDecodeIntent(f *testing.F) {
	b, _, err := sampleIntent(4).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= headerSize {
			b = reseal(bytes.Clone(b))
		}
		i, d, err := DecodeIntent(b)
		if err != nil {
			return
		}
		if _, again, err := i.Encode(); err != nil || again != d && b[12]|b[13]|b[14]|b[15] == 0 {
			t.Fatalf("%+v: decoded but encodes otherwise: %v", i, err)
		}
	})
}

func TestOfFirmware(t *testing.T) {
	d := Sum([]byte("firmware"))
	text := hex.EncodeToString(d[:])
	for _, tt := range []struct {
		version, digest string
		want            Content
	}{
		{"", "", Content{Strength: StrengthNone}},
		{"1", "", Content{Strength: StrengthVersion, Version: "1"}},
		{"1", text, Content{Strength: StrengthDigest, Digest: d, Version: "1"}},
		{"1", text[:10], Content{Strength: StrengthVersion, Version: "1"}},
		{"1", strings.Repeat("z", 64), Content{Strength: StrengthVersion, Version: "1"}},
		{"1", strings.Repeat("0", 64), Content{Strength: StrengthVersion, Version: "1"}},
	} {
		if got := OfFirmware(tt.version, tt.digest); got != tt.want {
			t.Errorf("OfFirmware(%q, %q) = %+v, want %+v", tt.version, tt.digest, got, tt.want)
		}
	}
}
