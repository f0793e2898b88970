package inventory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/host"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/hw/catalogue"
)

// kernel is hardware with one facility, that notes what was loaded.
type kernel struct {
	bare
	state  string
	loaded []string
}

func (k *kernel) Facility(name string) (catalogue.Facility, error) {
	if name != "target" {
		return catalogue.Facility{}, fmt.Errorf("the hardware catalogue knows no facility %q", name)
	}
	return catalogue.Facility{Modules: []string{"target_mod"}, State: k.state}, nil
}

// LoadFacility looks for the directory, as the module does.
func (k *kernel) LoadFacility(f catalogue.Facility) error {
	if _, err := os.ReadDir(k.state); err != nil {
		return err
	}
	k.loaded = append(k.loaded, f.Modules...)
	return nil
}

func TestFacility(t *testing.T) {
	box := &verdict.Report{Box: verdict.Verdict{Decision: verdict.Released}}
	isolated := &verdict.Report{Box: verdict.Verdict{Decision: verdict.Isolated, Reason: "counter went back"}}
	for name, c := range map[string]struct {
		report   *verdict.Report
		trusted  bool
		facility string
		hardware Hardware // nil: a kernel
		want     string
	}{
		"companion":    {box, true, "target", nil, ""},
		"other plugin": {box, false, "target", nil, "only companions"},
		"workstation":  {nil, true, "target", nil, "workstation"},
		"isolated":     {isolated, true, "target", nil, "counter went back"},
		"unknown":      {box, true, "nothing", nil, "no facility"},
		"no kernel":    {box, true, "target", bare{}, "no parts"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			k := &kernel{state: filepath.Join(dir, "etc", "target")}
			if c.hardware == nil {
				c.hardware = k
			}
			inv := New(c.hardware, c.report)
			req := host.Request{
				Plugin: "companion", Trusted: c.trusted, Dir: filepath.Join(dir, "plugins", "companion"), UID: os.Getuid(),
				Want: &pluginpb.Want{Name: "f", Kind: pluginpb.Kind_FACILITY, Selector: c.facility},
			}
			o, err := inv.Open(t.Context(), req)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("open: %v, want %q", err, c.want)
				}
				if len(k.loaded) > 0 {
					t.Errorf("loaded %v", k.loaded)
				}
				return
			}
			if err != nil || o.Handle.GetId() != "target" || o.File != nil || len(k.loaded) != 1 {
				t.Fatalf("open: %+v, %v, loaded %v", o, err, k.loaded)
			}
			// What the kernel writes there is in the plugin's directory, and so it is the second time.
			if err := os.WriteFile(filepath.Join(k.state, "kept"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(req.Dir, "target", "kept")); err != nil {
				t.Error(err)
			}
			if _, err := inv.Open(t.Context(), req); err != nil {
				t.Errorf("open again: %v", err)
			}
			if id, err := inv.Identify(t.Context(), "x", req.Want); err != nil || id != "facility:target" {
				t.Errorf("identity %q, %v", id, err)
			}
		})
	}
	if err := linkState(filepath.Join(t.TempDir()), filepath.Join(t.TempDir(), "d"), os.Getuid()); !errors.Is(err, os.ErrExist) {
		t.Errorf("a directory in the way: %v", err)
	}
}
