package hw

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	devices := []Device{
		{ID: "mac:52:54:00:00:00:01", Place: "pci:0000:00:01.0", Kind: NIC, MAC: "52:54:00:00:00:01", Supported: true},
		{ID: "serial:ratchet-data", Place: "pci:0000:00:03.0", Kind: Disk, Serial: "ratchet-data", Supported: true},
		{ID: "pci:0000:00:05.0/2:0:0", Place: "pci:0000:00:05.0/2:0:0", Kind: Disk, Serial: "DUP", Supported: true},
		{ID: "pci:0000:00:05.0/2:1:0", Place: "pci:0000:00:05.0/2:1:0", Kind: Disk, Serial: "DUP", Supported: true},
		{ID: "pci:0000:00:06.0", Place: "pci:0000:00:06.0", Kind: NIC, Why: "not in the hardware catalogue (10de:1234, class 020000)"},
	}
	for _, tt := range []struct{ selector, want, err string }{
		{"mac:52:54:00:00:00:01", "mac:52:54:00:00:00:01", ""},
		{"MAC:52:54:00:00:00:01", "mac:52:54:00:00:00:01", ""},
		{"pci:0000:00:01.0", "mac:52:54:00:00:00:01", ""},
		{"serial:ratchet-data", "serial:ratchet-data", ""},
		{"serial:RATCHET-DATA", "", "no device serial:RATCHET-DATA; there are: mac:52:54:00:00:00:01, serial:ratchet-data"},
		{"serial:DUP", "", "serial:DUP is 2 devices; select one by its place: pci:0000:00:05.0/2:0:0, pci:0000:00:05.0/2:1:0"},
		{"pci:0000:00:05.0", "", "is 2 devices"},
		{"pci:0000:00:05.0/2:1:0", "pci:0000:00:05.0/2:1:0", ""},
		{"pci:0000:00:06.0", "", "pci:0000:00:06.0 cannot be used: not in the hardware catalogue"},
		{"/dev/sda", "", "depend on the order of discovery"},
		{"eth0", "", "depend on the order of discovery"},
		{"uuid:1234", "", `"uuid" is no kind of selector`},
		{"", "", "no device"},
	} {
		d, err := Resolve(devices, tt.selector)
		if d.ID != tt.want || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("Resolve(%q) = %q, %v", tt.selector, d.ID, err)
		}
	}
	var notFound *NotFoundError
	if _, err := Resolve(nil, "mac:x"); !errors.As(err, &notFound) || !strings.Contains(err.Error(), "no supported NIC or disk") {
		t.Errorf("on an empty box: %v", err)
	}
	var ambiguous *AmbiguousError
	if _, err := Resolve(devices, "serial:DUP"); !errors.As(err, &ambiguous) || len(ambiguous.Matches) != 2 {
		t.Errorf("%v", err)
	}
}

func TestResolveFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if _, err := Resolve(nil, "file:"+path); err == nil || !strings.Contains(err.Error(), "fallocate") {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := Resolve(nil, "file:"+path); err != nil || d.Size != 8192 || d.Node != path || d.Kind != Disk || !d.Supported {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := Resolve(nil, "file:/dev/null"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a device: %v", err)
	}
}
