package pci

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/hw/internal/fakesys"
)

func TestScan(t *testing.T) {
	b := Bus{Root: fakesys.New(t, "../testdata/box.txtar")}
	functions, err := b.Scan()
	if err != nil || len(functions) != 8 {
		t.Fatalf("%d functions, %v", len(functions), err)
	}
	f := functions[2]
	if f.Address != "0000:00:02.0" || f.Vendor != "8086" || f.Device != "10d3" || f.Class != "020000" || f.Driver != "" || f.Override != "" {
		t.Errorf("%+v", f)
	}
	if functions[4].Driver != "nvme" {
		t.Errorf("%+v", functions[4])
	}
	if none, err := (Bus{Root: t.TempDir()}).Scan(); err != nil || len(none) != 0 {
		t.Errorf("without PCI: %v, %v", none, err)
	}
}

func TestBindTakesNothingFromAnother(t *testing.T) {
	b := Bus{Root: fakesys.New(t, "../testdata/box.txtar")}
	if err := b.Bind("0000:00:04.0", "vfio-pci"); err == nil || !strings.Contains(err.Error(), "nvme is bound to it") {
		t.Error(err)
	}
	if err := b.Bind("0000:00:04.0", "nvme"); err != nil {
		t.Errorf("bound already: %v", err)
	}
	if err := b.Bind("0000:00:02.0", "igb"); err == nil { // no such driver loaded
		t.Error("bound to a driver that is not there")
	}
	if _, err := b.Get("0000:00:0f.0"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestValidAddress(t *testing.T) {
	for s, want := range map[string]bool{
		"0000:00:04.0": true, "ffff:ff:1f.7": true,
		"": false, "0000:00:04": false, "0000:00:04.0/": false, "0000:00:0G.0": false, "0000:00:0A.0": false,
		"../../../../": false, "0000-00-04.0": false,
	} {
		if ValidAddress(s) != want {
			t.Errorf("ValidAddress(%q) = %v", s, !want)
		}
	}
}
