package inventory

import (
	"testing"

	"github.com/ratchetos/ratchet/core/host"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/hw"
)

// TestOpenCached: the second descriptor of a disk is for the plugin that has the first, and only for reading.
func TestOpenCached(t *testing.T) {
	d := loop(t, "04.0", false)
	inv := New(&rack{devices: []hw.Device{d}}, released(d.ID))
	cached := func(plugin string) (host.Opened, error) {
		return inv.Open(t.Context(), host.Request{Plugin: plugin, Want: &pluginpb.Want{Name: "c", Kind: pluginpb.Kind_DISK_CACHED, Selector: d.ID}})
	}
	if _, err := cached("gateway"); err == nil {
		t.Error("a disk that the plugin does not have was opened")
	}
	o, err := inv.Open(t.Context(), want(d.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer o.File.Close()
	if _, err := cached("other"); err == nil {
		t.Error("another plugin's disk was opened")
	}
	c, err := cached("gateway")
	if err != nil {
		t.Fatal(err)
	}
	defer c.File.Close()
	if _, err := c.File.ReadAt(make([]byte, 100), 1); err != nil { // direct I/O would refuse such a read
		t.Error(err)
	}
	if _, err := c.File.WriteAt([]byte("x"), 0); err == nil {
		t.Error("it can be written")
	}
}
