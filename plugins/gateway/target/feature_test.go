package target

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
)

const someSection = `{"volumes": [
  {"name": "a", "size": "1GiB", "disk": "serial:x", "store": {"driver": "s3", "bucket": "b", "prefix": "p"}},
  {"name": "d", "size": "1GiB", "disk": "serial:y", "store": {"driver": "dir", "path": "/srv/b"}}],
 "nbd": {"listen": ["tcp::10809"]}`

// TestValidate: without exports there is nothing to start a process for; with some it wants both targets.
func TestValidate(t *testing.T) {
	for text, wants := range map[string]string{
		`{}`:                            "",
		someSection + `}`:               "",
		someSection + `, "target": {}}`: "",
		`not json`:                      "",
		someSection + `, "target": {"nvme": {"exports": [{"volume": "a", "any_host": true}]}}}`:          "state nbd iscsi-target nvme-target",
		someSection + `, "target": {"iscsi": {"exports": [{"volume": "none", "any_initiator": true}]}}}`: "",
	} {
		v := New().Validate(t.Context(), plugin.Section{JSON: []byte(text)})
		var got []string
		for _, w := range v.Wants {
			got = append(got, w.GetSelector())
			if w.GetKind() != pluginpb.Kind_FACILITY && w.GetKind() != pluginpb.Kind_DIRECTORY {
				t.Errorf("want %v", w)
			}
		}
		if strings.Join(got, " ") != wants || len(v.Diagnostics) > 0 {
			t.Errorf("%s: wants %q, says %v", text, got, v.Diagnostics)
		}
	}
	if err := New().Configure(t.Context(), plugin.Section{JSON: []byte("not json")}); err == nil {
		t.Error("configured with what is no section")
	}
}

// TestPlaces: the companion and the gateway must make the same identity of a volume's place.
func TestPlaces(t *testing.T) {
	list, err := parse(plugin.Section{JSON: []byte(someSection + `, "target": {"iscsi": {"exports": [{"volume": "a", "any_initiator": true}, {"volume": "d", "any_initiator": true}]}}}`)})
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	for i, p := range []exports.Place{{Bucket: "b", Prefix: "p", Volume: "a"}, {Bucket: "/srv/b", Volume: "d"}} {
		if list[i].UUID != exports.VolumeUUID(p) {
			t.Errorf("%s has another identity than its place", list[i].Volume)
		}
	}
}

// TestSynchronous: a file that is made in the directory has the flag as well.
func TestSynchronous(t *testing.T) {
	dir := t.TempDir()
	if err := synchronous(dir); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil && flags&flagSync == 0 {
		t.Errorf("flags %#x", flags)
	}
	if err := synchronous(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that does not exist")
	}
}

func TestDescribe(t *testing.T) {
	d := New().Describe()
	if d.GetCompanionOf() != "gateway" || d.GetConfigSchema() != "" || !d.GetHandover() {
		t.Errorf("descriptor %v", d)
	}
}
