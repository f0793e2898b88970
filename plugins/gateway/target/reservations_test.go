package target

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/target/configfs"
	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
	"github.com/ratchetos/ratchet/plugins/gateway/target/tree"
)

// someReservation is a file of LIO with one registration.
const someReservation = "PR_REG_START: 0\ninitiator_node=iqn.x:host\nPR_REG_END: 0\n\x00"

// withDisk makes a feature that has the device of volume a, an iSCSI export, and directories in place of configfs and
// STATE. It returns the directory that stands for the disk in the kernel, and LIO's file of its reservations.
func withDisk(t *testing.T, text string) (f *Feature, store, file string) {
	mount, kept := t.TempDir(), t.TempDir()
	for _, dir := range []string{"target/core", "nvmet"} {
		if err := os.MkdirAll(filepath.Join(mount, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c, err := configfs.Open(mount, "target", "nvmet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := newService(options{tree: c, reservations: kept, log: slog.New(slog.DiscardHandler), report: func(plugin.Event) {}})
	e := exports.Export{Protocol: exports.ProtocolISCSI, Volume: "a", UUID: exports.UUID{1}}
	s.list = []exports.Export{e, {Protocol: exports.ProtocolNVMe, Volume: "n"}}
	s.keepers["a"], s.keepers["n"] = newKeeper(s, "a"), newKeeper(s, "n")
	s.keepers["a"].index = 0
	if text != "-" {
		if err := os.WriteFile(s.file(e), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &Feature{service: s}, filepath.Join(mount, tree.Store(e)), s.file(e)
}

// exists says whether there is a file or directory.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// TestClearReservations: a disk is held back for its torn file; when that is cleared, it is exported without being asked.
func TestClearReservations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store, file := withDisk(t, "")
		s := f.service
		s.work.Go(s.run)
		defer s.work.Wait()
		defer s.cancel()
		err := s.between(t.Context(), func() {
			if exists(store) || s.unsure["a"] == nil {
				t.Error("exported with a torn file")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		reply, err := f.Invoke(t.Context(), api.MethodClear, []byte(`{"name": "a"}`))
		if err != nil || !strings.Contains(string(reply), file) || !strings.Contains(string(reply), "not complete") {
			t.Errorf("cleared: %s, %v", reply, err)
		}
		synctest.Wait()
		if exists(file) || !exists(store) {
			t.Errorf("the file is there: %t; the kernel has the disk: %t", exists(file), exists(store))
		}
	})
}

// TestLastReservations: a disk that is made anew gets the reservations that there were when its last session ended, and not those
// of a moment before.
func TestLastReservations(t *testing.T) {
	f, store, file := withDisk(t, someReservation)
	s := f.service
	s.list = s.list[:1]
	mount := strings.TrimSuffix(store, "/"+tree.Store(s.list[0]))
	old := filepath.Join(mount, "target/iscsi/iqn.x:old")
	if err := os.MkdirAll(old, 0o700); err != nil {
		t.Fatal(err)
	}
	b := tree.Backed{Export: s.list[0], Device: "/dev/nbd0"}
	s.log = slog.New(watching{func(op string) {
		switch op {
		case "rmdir target/iscsi/iqn.x:old": // the kernel waits for what is under way, and another initiator preempts
			if err := os.WriteFile(file, []byte(strings.ReplaceAll(someReservation, "host", "other")), 0o600); err != nil {
				t.Error(err)
			}
		case "mkdir " + tree.Store(s.list[0]):
			b.Reservations = []tree.Reservation{{}} // an attribute for them
			pretend(t, mount, b)
		}
	}})
	if err := s.reconcile(); err != nil {
		t.Log(err) // a directory is not all that configfs is
	}
	if got, err := os.ReadFile(filepath.Join(store, "pr/res_aptpl_metadata")); err != nil || string(got) != "initiator_node=iqn.x:other" {
		t.Errorf("the kernel is given %q, %v", got, err)
	}
}

// watching hands on what is about to be done.
type watching struct{ told func(op string) }

func (watching) Enabled(context.Context, slog.Level) bool { return true }
func (w watching) WithAttrs([]slog.Attr) slog.Handler     { return w }
func (w watching) WithGroup(string) slog.Handler          { return w }

func (w watching) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		w.told(a.Value.String())
		return true
	})
	return nil
}

// TestForget: only what cannot be read is removed unasked, and nothing of a disk that the kernel has.
func TestForget(t *testing.T) {
	for name, tc := range map[string]struct {
		volume, text  string // "-" is no file
		exported      bool
		force         bool
		registrations int
		says          string // "" is removed
	}{
		"torn":               {"a", "", false, false, 0, ""},
		"noise":              {"a", "noise\x00", false, false, 0, ""},
		"readable":           {"a", someReservation, false, false, 0, "--force"},
		"readable, forced":   {"a", someReservation, false, true, 1, ""},
		"exported, forced":   {"a", someReservation, true, true, 0, "the kernel has the disk"},
		"torn, not yet gone": {"a", "", true, true, 0, "the kernel has the disk"},
		"no file":            {"a", "-", false, true, 0, "nothing is removed"},
		"none in the file":   {"a", "No Registrations or Reservations\x00", false, true, 0, "nothing is removed"},
		"NVMe":               {"n", "", false, true, 0, `no volume "n" is exported over iSCSI`},
		"mistyped":           {"b", "", false, true, 0, `no volume "b" is exported over iSCSI`},
	} {
		f, store, file := withDisk(t, tc.text)
		if tc.exported {
			if err := os.MkdirAll(store, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		gone, err := f.service.forget(tc.volume, tc.force)
		switch {
		case tc.says == "" && (err != nil || gone.File != file || gone.Registrations != tc.registrations || exists(file)):
			t.Errorf("%s: %+v, %v; the file is there: %t", name, gone, err, exists(file))
		case tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says) || exists(file) == (tc.text == "-")):
			t.Errorf("%s: %v does not say %q; the file is there: %t", name, err, tc.says, exists(file))
		}
	}
}

// TestInvoke: what cannot be carried out is an error, and nothing waits for a service that has ended.
func TestInvoke(t *testing.T) {
	f, _, _ := withDisk(t, "")
	f.service.cancel()
	f.service.run()
	for name, tc := range map[string]struct {
		f               *Feature
		method, request string
		says            string
	}{
		"method":  {f, "reservations.show", "{}", "not known"},
		"request": {f, api.MethodClear, `{"volume": "a"}`, "unknown field"},
		"stopped": {New(), api.MethodClear, `{"name": "a"}`, "not started"},
		"ended":   {f, api.MethodClear, `{"name": "a"}`, "stopping"},
	} {
		if _, err := tc.f.Invoke(t.Context(), tc.method, []byte(tc.request)); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v does not say %q", name, err, tc.says)
		}
	}
}
