package devmapper

import (
	"encoding/binary"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestEncode holds the bytes to the kernel's own structures.
func TestEncode(t *testing.T) {
	b, err := message{name: "state", uuid: "CRYPT-LUKS2-0-state", flags: unix.DM_SECURE_DATA_FLAG, target: &target{sectors: 258048, kind: "crypt", params: "some params"}}.encode()
	if err != nil {
		t.Fatal(err)
	}
	h := (*unix.DmIoctl)(unsafe.Pointer(&b[0]))
	if h.Version != [3]uint32{4, 27, 0} || h.Data_size != uint32(len(b)) || h.Data_start != unix.SizeofDmIoctl ||
		h.Target_count != 1 || h.Flags != unix.DM_SECURE_DATA_FLAG {
		t.Errorf("header %+v", h)
	}
	if got := unix.ByteSliceToString(h.Name[:]) + " " + unix.ByteSliceToString(h.Uuid[:]); got != "state CRYPT-LUKS2-0-state" {
		t.Errorf("name and UUID %q", got)
	}
	s := (*unix.DmTargetSpec)(unsafe.Pointer(&b[h.Data_start]))
	if s.Sector_start != 0 || s.Length != 258048 || s.Next != 0 || unix.ByteSliceToString(s.Target_type[:]) != "crypt" {
		t.Errorf("target %+v", s)
	}
	if got := unix.ByteSliceToString(b[int(h.Data_start)+unix.SizeofDmTargetSpec:]); got != "some params" || len(b)%targetAlign != 0 || b[len(b)-1] != 0 {
		t.Errorf("parameters %q in %d bytes", got, len(b))
	}
	answer := make([]byte, unix.SizeofDmIoctl)
	binary.NativeEndian.PutUint64(answer[unsafe.Offsetof(h.Dev):], unix.Mkdev(254, 300))
	if minor(device(answer)) != 300 {
		t.Errorf("minor %d", minor(device(answer)))
	}
}

func TestEncodeMessage(t *testing.T) {
	b, err := message{name: "rec", text: "mark flush-7"}.encode()
	if err != nil {
		t.Fatal(err)
	}
	h := (*unix.DmIoctl)(unsafe.Pointer(&b[0]))
	m := b[h.Data_start:]
	if int(h.Data_size) != len(b) || binary.NativeEndian.Uint64(m) != 0 || unix.ByteSliceToString(m[8:]) != "mark flush-7" {
		t.Errorf("message %q in %d bytes", m, h.Data_size)
	}
}

func TestTable(t *testing.T) {
	key := make([]byte, 64)
	for _, c := range []struct {
		crypt Crypt
		want  string
		err   string
	}{
		{Crypt{Offset: 2 << 20, Size: 126 << 20, Cipher: "aes-xts-plain64", Key: key, SectorSize: 4096}, "aes-xts-plain64 :64:logon:k 0 8:3 4096 1 sector_size:4096", ""},
		{Crypt{Size: 1536, Cipher: "aes-xts-plain64", Key: key, SectorSize: 512}, "aes-xts-plain64 :64:logon:k 0 8:3 0", ""},
		{Crypt{Size: 1536, Cipher: "aes-xts-plain64", Key: key, SectorSize: 4096}, "", "not whole sectors"},
		{Crypt{Size: 4096, Offset: 512, Cipher: "aes-xts-plain64", Key: key, SectorSize: 4096}, "", "not whole sectors"},
		{Crypt{Size: 4096, Cipher: "aes xts", Key: key, SectorSize: 512}, "", "no cipher"},
		{Crypt{Size: 4096, Cipher: "aes-xts-plain64", Key: key, SectorSize: 1000}, "", "sectors of"},
		{Crypt{Size: 4096, Cipher: "aes-xts-plain64", Key: key}, "", "sectors of"},
	} {
		got, err := c.crypt.table("8:3", "k")
		switch {
		case c.err == "" && (err != nil || got.params != c.want || got.sectors != uint64(c.crypt.Size)/512):
			t.Errorf("%+v: %+v %v", c.crypt, got, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%+v: %v, want %q", c.crypt, err, c.err)
		}
	}
}

func TestBadNames(t *testing.T) {
	for _, m := range []message{{}, {name: "a/b"}, {name: strings.Repeat("x", 128)}, {name: "a", uuid: strings.Repeat("x", 129)}} {
		if _, err := m.encode(); err == nil {
			t.Errorf("%+v was encoded", m)
		}
	}
}

func TestOpenNeedsABlockDevice(t *testing.T) {
	for _, node := range []string{"/dev/null", t.TempDir() + "/missing"} {
		if _, err := Open(Crypt{Name: "x", Backing: node}); err == nil || !strings.Contains(err.Error(), node) {
			t.Errorf("%s: %v", node, err)
		}
	}
}
