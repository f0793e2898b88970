package host

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// A pinned map outlives who made it, and goes when the plugin does not want the directory any more.
func TestPinsDirectory(t *testing.T) {
	const uid = 61190
	l := Local{Dir: t.TempDir()}
	req := Request{Plugin: "dataplane", UID: uid, Want: &pluginpb.Want{Kind: pluginpb.Kind_DIRECTORY, Selector: "bpf"}}
	open := func() Opened {
		o, err := l.Open(t.Context(), req)
		if err != nil {
			t.Fatalf("%v (needs root)", err)
		}
		t.Cleanup(func() { o.File.Close(); o.Release() })
		return o
	}
	o := open()
	path := o.Handle.GetId()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := st.Sys().(*syscall.Stat_t).Uid; owner != uid || st.Mode().Perm() != 0o700 {
		t.Errorf("%s belongs to %d with mode %o", path, owner, st.Mode().Perm())
	}
	pin := func() {
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := m.Pin(filepath.Join(path, "map")); err != nil {
			t.Fatal(err)
		}
	}
	pin()
	again, err := ebpf.LoadPinnedMap(filepath.Join(path, "map"), nil)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if open(); left(t, path) != 0 { // core was started anew and found what its forerunner left
		t.Errorf("%s does not begin empty", path)
	}
	pin()
	if err := o.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", filepath.Dir(path), err)
	}
}

func left(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
