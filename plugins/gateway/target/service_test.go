package target

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
	"github.com/ratchetos/ratchet/plugins/gateway/target/tree"
)

// clearIt is what an operator is told to type.
const clearIt = "ratchetctl volume reservations clear a --yes"

// TestKeptReservations: a disk that never had reservations has no file; one whose file is torn is refused, with what to do.
func TestKeptReservations(t *testing.T) {
	const none = "No Registrations or Reservations\x00"
	ended, cancel := context.WithCancel(t.Context())
	cancel() // looks again without waiting
	for name, tc := range map[string]struct {
		protocol exports.Protocol
		text     string // "-" is no file
		says     []string
	}{
		"no file":       {exports.ProtocolISCSI, "-", nil},
		"none any more": {exports.ProtocolISCSI, none, nil},
		"emptied":       {exports.ProtocolISCSI, "", []string{"not complete", clearIt, "aptpl_"}},
		"no NUL":        {exports.ProtocolISCSI, none[:20], []string{"not complete", clearIt, "aptpl_"}},
		"noise":         {exports.ProtocolISCSI, "noise\x00", []string{"aptpl_", "no line of LIO", clearIt}},
		"NVMe":          {exports.ProtocolNVMe, "", nil},
	} {
		e := exports.Export{Protocol: tc.protocol, Volume: "a", UUID: exports.UUID{1}}
		s := &service{options: options{reservations: t.TempDir()}, ctx: ended}
		if tc.text != "-" {
			if err := os.WriteFile(filepath.Join(s.reservations, "aptpl_"+e.UUID.String()), []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.kept(e)
		if err != nil {
			err = errors.New(withoutReservations("a", false, err))
		}
		if (err != nil) != (tc.says != nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, word := range tc.says {
			if err != nil && !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %v does not say %q", name, err, word)
			}
		}
	}
}

// TestReservationsBeingWritten: a file that LIO is about to write is not taken for a torn one.
func TestReservationsBeingWritten(t *testing.T) {
	e := exports.Export{Protocol: exports.ProtocolISCSI, Volume: "a", UUID: exports.UUID{1}}
	s := &service{options: options{reservations: t.TempDir()}, ctx: t.Context()}
	path := filepath.Join(s.reservations, "aptpl_"+e.UUID.String())
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	looked := make(chan error)
	go func() {
		_, err := s.kept(e)
		looked <- err
	}()
	if err := os.WriteFile(path, []byte("No Registrations or Reservations\x00"), 0o600); err != nil {
		t.Error(err)
	}
	if err := <-looked; err != nil {
		t.Error(err)
	}
}

// TestOneExportIsRefused: an export that the kernel does not take keeps no other one down, and is shown with the reason, also when
// it was there before a change; the others are well.
func TestOneExportIsRefused(t *testing.T) {
	f, store, _ := withDisk(t, "-")
	s, mount := f.service, strings.TrimSuffix(store, "/target/core/iblock_0/a")
	var shown plugin.Event
	s.report = func(e plugin.Event) { shown = e }
	b := exports.Export{
		Protocol: exports.ProtocolISCSI, Volume: "b", Name: "iqn.x:b", UUID: exports.UUID{2}, Portals: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:3260")},
	}
	s.list = []exports.Export{s.list[0], b} // a comes first; the directory that stands for configfs has none of its attributes
	s.keepers["b"] = newKeeper(s, "b")
	for i, name := range []string{"a", "b"} {
		s.keepers[name].index, s.keepers[name].live, s.done[name] = i, true, true
	}
	enable := pretend(t, mount, tree.Backed{Export: b, Device: "/dev/nbd1"})
	if err := s.reconcile(); err == nil {
		t.Error("nothing is refused")
	}
	if on, err := os.ReadFile(enable); err != nil || string(on) != "1" {
		t.Errorf("the other export has %q, %v", on, err)
	}
	s.show()
	rows := shown.GetTables()[0].GetRows()
	if cells := strings.Join(rows[0].GetCells(), " "); !strings.Contains(cells, stateFailed) || !strings.Contains(cells, "udev_path=/dev/nbd0") {
		t.Errorf("shown: %s", cells)
	}
	if cells := rows[1].GetCells(); cells[4] != stateExported || cells[7] != "" {
		t.Errorf("shown: %s", cells)
	}
	if shown.GetHealth() != pluginpb.Event_DEGRADED || shown.GetGauges()[0].GetValue() != 0 || shown.GetGauges()[1].GetValue() != 1 {
		t.Errorf("shown: %v", shown)
	}
}

// TestNextProcess: what the kernel has when the process starts stays as it is. The first look must know the devices that there are: an
// export without one is taken down, with its sessions and with the reservations that nobody wanted kept.
func TestNextProcess(t *testing.T) {
	f, store, _ := withDisk(t, "-")
	s, mount := f.service, strings.TrimSuffix(store, "/target/core/iblock_0/a")
	s.sys, s.keepers = t.TempDir(), map[string]*keeper{}
	nbd := filepath.Join(s.sys, "block/nbd1")
	for name, text := range map[string]string{"backend": "ratchet/b\n", "size": "2048\n"} {
		if err := errors.Join(os.MkdirAll(nbd, 0o700), os.WriteFile(filepath.Join(nbd, name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	b := exports.Export{
		Protocol: exports.ProtocolISCSI, Volume: "b", Name: "iqn.x:b", UUID: exports.UUID{2}, Portals: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:3260")},
	}
	s.list = []exports.Export{b}
	enable := pretend(t, mount, tree.Backed{Export: b, Device: "/dev/nbd1"})
	link := filepath.Join(mount, "target/iscsi/iqn.x:b/tpgt_1/lun/lun_0/b")
	if err := errors.Join(os.WriteFile(enable, []byte("1"), 0o600), os.Symlink(filepath.Join(mount, tree.Store(b)), link)); err != nil {
		t.Fatal(err)
	}
	defer s.work.Wait()
	defer s.cancel()
	if err := s.reconcile(); err != nil {
		t.Error(err)
	}
	if on, err := os.ReadFile(enable); err != nil || string(on) != "1" || !exists(link) {
		t.Errorf("the export has %q, %v; its disk is there: %t", on, err, exists(link))
	}
	if !s.done["b"] {
		t.Error("it is not known to be exported")
	}
	// Without a look at the devices nothing is changed.
	s.sys, s.list = filepath.Join(s.sys, "none"), append(s.list, exports.Export{Protocol: exports.ProtocolISCSI, Volume: "c", Name: "iqn.x:c"})
	if err := s.reconcile(); err == nil || !exists(link) {
		t.Errorf("devices that cannot be looked at: %v; its disk is there: %t", err, exists(link))
	}
}

// pretend makes everything of an export but what lets clients in, whose attribute it returns.
func pretend(t *testing.T, mount string, b tree.Backed) (enable string) {
	for _, n := range tree.Desired([]tree.Backed{b}) {
		at := filepath.Join(mount, n.Path)
		if n.Kind == tree.Link {
			continue
		}
		dir, text := at, n.Value
		if n.Kind == tree.Attr {
			dir = filepath.Dir(at)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if n.Kind == tree.Dir {
			continue
		}
		if strings.HasSuffix(at, "tpgt_1/enable") {
			enable, text = at, "0"
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return enable
}
