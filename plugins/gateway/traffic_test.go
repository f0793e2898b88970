package gateway

import (
	"slices"
	"testing"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

// TestTraffic: the metrics have the state of a volume and what it asked of its store.
func TestTraffic(t *testing.T) {
	b := newBox(t, t.TempDir())
	f := b.start()
	c := b.mustDial()
	p := marker()
	if err := c.Write(0, p, true); err != nil {
		t.Fatal(err)
	}
	if _, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: boxName}); err != nil {
		t.Fatal(err)
	}
	if _, err := invoke[api.EvictReply](t, f, api.MethodEvict, api.EvictRequest{Name: boxName}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(0, uint32(len(p))); err != nil {
		t.Fatal(err)
	}
	gauges := event(f.runners, f.disks).Gauges
	for _, want := range []struct {
		name, label, value string
		least              float64
	}{
		{"volume_state", "state", "attached", 1},
		{"volume_store_requests_total", "request", "put", 2}, // an object and a head
		{"volume_store_requests_total", "request", "get", 2},
		{"volume_store_requests_total", "request", "delete", 0},
		{"volume_store_sent_bytes_total", "volume", boxName, float64(len(p))},
		{"volume_store_received_bytes_total", "volume", boxName, float64(len(p))},
	} {
		i := slices.IndexFunc(gauges, func(g *pluginpb.Gauge) bool {
			return g.GetName() == want.name && g.GetLabels()[want.label] == want.value && g.GetLabels()["volume"] == boxName
		})
		if i < 0 || gauges[i].GetValue() < want.least {
			t.Errorf("%s of %s: at least %g is wanted, there are %v", want.name, want.value, want.least, gauges[max(i, 0)])
		}
	}
}
