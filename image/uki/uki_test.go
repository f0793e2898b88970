package uki

import (
	"bytes"
	"crypto/sha256"
	"debug/pe"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const stubPath = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// tinyStub is the smallest program Parse accepts: one code section, a .sdmagic that says it is
// the stub of a version, room for seven more, and a symbol table behind them as Debian's has.
func tinyStub(version string) []byte {
	const peAt, optSize = 0x80, optFixed + 16*8
	b := make([]byte, 0x600)
	b[0], b[1] = 'M', 'Z'
	le.PutUint32(b[peOffset:], peAt)
	copy(b[peAt:], "PE\x00\x00")
	le.PutUint16(b[peAt+4:], machineAMD64)
	le.PutUint16(b[peAt+6:], 2)
	le.PutUint32(b[peAt+12:], 0x600) // symbol table
	le.PutUint32(b[peAt+16:], 3)
	le.PutUint16(b[peAt+20:], optSize)
	opt := b[peAt+coffSize:]
	le.PutUint16(opt, magicPE32P)
	le.PutUint32(opt[32:], 0x200)
	le.PutUint32(opt[36:], 0x200)
	le.PutUint32(opt[56:], 0x3000)
	le.PutUint32(opt[60:], 0x400)
	le.PutUint32(opt[108:], 16)
	for i, s := range []struct {
		name string
		data []byte
	}{{".text", []byte("code")}, {".sdmagic", []byte(stubMagic + version + " ####")}} {
		h := b[peAt+coffSize+optSize+i*sectionSize:]
		copy(h, s.name)
		le.PutUint32(h[8:], uint32(len(s.data)))
		le.PutUint32(h[12:], uint32(0x1000*(i+1)))
		le.PutUint32(h[16:], 0x100)
		le.PutUint32(h[20:], uint32(0x400+i*0x100))
		copy(b[0x400+i*0x100:], s.data)
	}
	return append(b, "symbols and strings"...)
}

var tiny = Content{
	OSRelease: []byte("ID=ratchet\n"), Uname: []byte("9.9-test"), Cmdline: []byte("quiet panic=10"),
	Initrd: []byte("initrd"), Linux: bytes.Repeat([]byte("kernel"), 200),
}

func build(t testing.TB, stub []byte, c Content) []byte {
	t.Helper()
	b, err := Build(stub, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, b []byte) *File {
	t.Helper()
	f, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestGolden(t *testing.T) {
	got := build(t, tinyStub("252"), tiny)
	path := filepath.Join("testdata", "tiny.efi")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("image differs from %s; -update rewrites it", path)
	}
}

// TestSections reads an image back with Go's own PE reader as well as ours.
func TestSections(t *testing.T) {
	stub, err := os.ReadFile(stubPath)
	if err != nil {
		t.Fatalf("%v; apt install systemd-boot-efi", err)
	}
	for name, stub := range map[string][]byte{"tiny": tinyStub("252"), "debian": stub} {
		t.Run(name, func(t *testing.T) {
			image := build(t, stub, tiny)
			if !bytes.Equal(image, build(t, stub, tiny)) {
				t.Error("two builds differ")
			}
			f := parse(t, image)
			other, err := pe.NewFile(bytes.NewReader(image))
			if err != nil {
				t.Fatalf("debug/pe: %v", err)
			}
			for name, want := range map[string][]byte{
				".osrel": tiny.OSRelease, ".uname": tiny.Uname, ".cmdline": tiny.Cmdline, ".initrd": tiny.Initrd, ".linux": tiny.Linux,
			} {
				if got, ok := f.Section(name); !ok || !bytes.Equal(got, want) {
					t.Errorf("%s: %q", name, got)
				}
				s := other.Section(name)
				if s == nil {
					t.Errorf("%s: debug/pe does not see it", name)
					continue
				}
				data, err := s.Data()
				if err != nil || !bytes.Equal(data[:s.VirtualSize], want) {
					t.Errorf("%s: debug/pe reads %q %v", name, data, err)
				}
				if s.VirtualAddress%4096 != 0 {
					t.Errorf("%s at %#x is not on a page of its own", name, s.VirtualAddress)
				}
			}
			if _, err := Build(image, tiny); err == nil {
				t.Error("an image was taken for a stub")
			}
		})
	}
}

// TestPCR11 recomputes the register step by step from the documented order.
func TestPCR11(t *testing.T) {
	for _, c := range []struct {
		version string
		order   string
		err     string
	}{
		{version: "252.39-1~deb12u2", order: ".linux .osrel .cmdline .initrd"},
		{version: "257.1", order: ".linux .osrel .cmdline .initrd .uname"},
		{version: "254.9", err: "not known"},
		{version: "x", err: "stub version"},
		{version: "", err: "no systemd stub"},
	} {
		f := parse(t, build(t, tinyStub(c.version), tiny))
		got, err := PCR11(f)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", c.version, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.version, err)
			continue
		}
		pcr := make([]byte, 32)
		for name := range strings.FieldsSeq(c.order) {
			data, _ := f.Section(name)
			for _, event := range [][]byte{append([]byte(name), 0), data} {
				d := sha256.Sum256(event)
				next := sha256.Sum256(append(pcr, d[:]...))
				pcr = next[:]
			}
		}
		if !bytes.Equal(got[:], pcr) {
			t.Errorf("%s: %x, want %x", c.version, got, pcr)
		}
	}
	// Computed once and kept, so that code and test above cannot drift together.
	got, err := PCR11(parse(t, build(t, tinyStub("252"), tiny)))
	const golden = "f6c595ef2f4018232b4231ab0fc7d345d30668160aaabaed94fca84afa6f274b"
	if err != nil || hex.EncodeToString(got[:]) != golden {
		t.Errorf("PCR 11 of the golden image is %x, want %s (%v)", got, golden, err)
	}
}

func TestParseRefuses(t *testing.T) {
	image := build(t, tinyStub("252"), tiny)
	f := parse(t, image)
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"cut in the headers", func(b []byte) []byte { return b[:0x100] }},
		{"cut in the last section", func(b []byte) []byte { return b[:len(b)-0x200] }},
		{"PE offset outside", func(b []byte) []byte { le.PutUint32(b[peOffset:], 0xfffffff0); return b }},
		{"other machine", func(b []byte) []byte { le.PutUint16(b[f.coff+4:], 0xaa64); return b }},
		{"no sections", func(b []byte) []byte { le.PutUint16(b[f.coff+6:], 0); return b }},
		{"many sections", func(b []byte) []byte { le.PutUint16(b[f.coff+6:], 0xffff); return b }},
		{"alignment of 3", func(b []byte) []byte { le.PutUint32(b[f.opt+36:], 3); return b }},
		{"section beyond the file", func(b []byte) []byte { le.PutUint32(b[f.table+20:], 0xfffffe00); return b }},
		{"section beyond the image", func(b []byte) []byte { le.PutUint32(b[f.table+12:], 0xfffffe00); return b }},
		{"certificates within the sections", func(b []byte) []byte {
			le.PutUint32(b[f.certDir():], 0x400)
			le.PutUint32(b[f.certDir()+4:], uint32(len(b)-0x400))
			return b
		}},
		{"bytes behind the certificates", func(b []byte) []byte {
			le.PutUint32(b[f.certDir():], uint32(len(b)))
			le.PutUint32(b[f.certDir()+4:], 8)
			return append(b, make([]byte, 16)...)
		}},
	} {
		if _, err := Parse(c.change(bytes.Clone(image))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	full := tinyStub("252")
	le.PutUint32(full[0x80+coffSize+60:], 0x208) // headers end right behind the two sections
	empty := tiny
	empty.Initrd = nil
	for name, err := range map[string]error{
		"no room":       errOf(Build(full, tiny)),
		"empty section": errOf(Build(tinyStub("252"), empty)),
		"no stub":       errOf(Build([]byte("ELF"), tiny)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func errOf(_ []byte, err error) error { return err }

func FuzzParse(f *testing.F) {
	f.Add(tinyStub("252"))
	f.Add(build(f, tinyStub("252"), tiny))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		// Everything a caller can ask of a parsed file must lie inside it.
		for _, s := range p.Sections {
			p.Section(s.Name)
		}
		_, _ = PCR11(p)
		n := len(p.Certificates())
		for _, part := range p.Signed() {
			n += len(part)
		}
		if n != len(b)-12 { // checksum and directory entry
			t.Errorf("signed parts and signature are %d bytes of %d", n, len(b))
		}
		if out, err := Build(b, tiny); err == nil {
			if _, err := Parse(out); err != nil {
				t.Errorf("the image built on an accepted stub is refused: %v", err)
			}
		}
	})
}

func ExamplePCR11() {
	image, err := Build(tinyStub("252"), tiny)
	if err != nil {
		fmt.Println(err)
		return
	}
	f, err := Parse(image)
	if err != nil {
		fmt.Println(err)
		return
	}
	pcr, err := PCR11(f)
	fmt.Printf("%x… %v\n", pcr[:4], err)
	// Output: f6c595ef… <nil>
}

// TestWithSection adds what is made from an image to it, without changing what was measured.
func TestWithSection(t *testing.T) {
	image := build(t, tinyStub("252"), tiny)
	signed, err := WithSection(image, ".pcrsig", []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	f := parse(t, signed)
	if b, ok := f.Section(".pcrsig"); !ok || string(b) != "{}" {
		t.Errorf("section: %q %v", b, ok)
	}
	before, err := PCR11(parse(t, image))
	if err != nil {
		t.Fatal(err)
	}
	if after, err := PCR11(f); err != nil || after != before {
		t.Errorf("PCR 11 is %x, was %x (%v)", after, before, err)
	}
	if _, err := pe.NewFile(bytes.NewReader(signed)); err != nil {
		t.Errorf("debug/pe: %v", err)
	}
	for name, err := range map[string]error{
		"twice":    errOf(WithSection(signed, ".pcrsig", []byte("{}"))),
		"measured": errOf(WithSection(image, ".splash", []byte("x"))),
		"empty":    errOf(WithSection(image, ".pcrsig", nil)),
		"no image": errOf(WithSection([]byte("ELF"), ".pcrsig", []byte("{}"))),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
