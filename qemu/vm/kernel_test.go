package vm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func notes(t *testing.T, all ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, v := range all {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestFindEntry(t *testing.T) {
	gnu := []any{uint32(4), uint32(6), uint32(3), []byte("GNU\x00"), []byte("abcdef\x00\x00")}
	version := []any{uint32(4), uint32(4), uint32(6), []byte("Xen\x00"), uint32(1)}
	entry := []any{uint32(4), uint32(8), uint32(18), []byte("Xen\x00"), uint64(0x1000850)}
	long := []any{uint32(6), uint32(0), uint32(18), []byte("Linux\x00\x00\x00")}
	join := func(lists ...[]any) (all []any) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	for _, c := range []struct {
		name  string
		notes []any
		want  bool
	}{
		{"none", nil, false},
		{"others only", join(gnu, version, long), false},
		{"first", join(entry, gnu), true},
		{"last", join(gnu, long, version, entry), true},
		{"name cut off", []any{uint32(4), uint32(8), uint32(18), []byte("Xe")}, false},
		{"no address in it", []any{uint32(4), uint32(0), uint32(18), []byte("Xen\x00")}, false},
		{"endless description", []any{uint32(4), uint32(0xffffffff), uint32(3), []byte("GNU\x00")}, false},
	} {
		got := findEntry(notes(t, c.notes...))
		if (got != nil) != c.want || c.want && binary.LittleEndian.Uint64(got) != 0x1000850 {
			t.Errorf("%s: found = %x, want one: %v", c.name, got, c.want)
		}
	}
}

// What the processor runs, as a disassembler would have it.
func TestStartCode(t *testing.T) {
	code := startCode(0x01000850, 0xf58f00)
	want := "c7430c01000000" + // movl $1, 12(%ebx)
		"c7431040f0ff07" + // movl $0x7fff040, 16(%ebx)
		"c7431400000000" + // movl $0, 20(%ebx)
		"b850080001" + "ffe0" // movl $0x1000850, %eax; jmp *%eax
	if got := hex.EncodeToString(code[:len(want)/2]); got != want {
		t.Errorf("code = %s, want %s", got, want)
	}
	list := "0000000800000000" + "008ff50000000000" + "0000000000000000" + "0000000000000000"
	if got := hex.EncodeToString(code[listAt-startAt:]); got != list {
		t.Errorf("list = %s, want %s", got, list)
	}
}

// What is no bzImage is left to QEMU.
func TestUnpackLeavesOthersAlone(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for name, content := range map[string]string{"empty": "", "text": "no kernel", "elf": "\x7fELF and no more"} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := unpack(path); err != nil || got != nil {
			t.Errorf("%s: unpacked = %v, %v; want neither", name, got, err)
		}
	}
	if _, err := unpack(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing kernel is no error")
	}
}

// A small machine, and one without an initrd, start as QEMU starts them by itself.
func TestEnterDirectlyNeedsRoom(t *testing.T) {
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Config{
		{Memory: "128M", Firmware: Direct{Kernel: "k", Initrd: initrd}},
		{Memory: "odd", Firmware: Direct{Kernel: "k", Initrd: initrd}},
		{Memory: "2G", Firmware: Direct{Kernel: "k"}},
		{Memory: "2G", Firmware: UEFI{}},
	} {
		got, err := c.enterDirectly(t.TempDir())
		if err != nil || len(got.ExtraArgs) != 0 {
			t.Errorf("%+v: arguments %q, %v; want none", c, got.ExtraArgs, err)
		}
	}
}

func TestPruneKeepsWhatWasUsedLast(t *testing.T) {
	dir := t.TempDir()
	for i := range unpackedKept + 3 {
		path := filepath.Join(dir, strconv.Itoa(i)+"-1000850.elf")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := prune(dir); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*.elf"))
	if len(left) != unpackedKept || cached(dir, "2") != nil || cached(dir, "3") == nil {
		t.Errorf("kept %v, want the %d newest", left, unpackedKept)
	}
	if u := cached(dir, "4"); u == nil || u.entry != 0x1000850 {
		t.Errorf("cached = %+v, want the entry point of its name", u)
	}
}
