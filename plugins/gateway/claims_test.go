package gateway

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

// TestMissing: what one volume lacks at the start keeps that one alone down, with the reason, until it is there.
func TestMissing(t *testing.T) {
	key := keyFile(t, strings.Repeat("5a", keySize))
	for name, tc := range map[string]struct {
		lacks []string
		says  string
		comes func(b *box) map[string]string
	}{
		"disk": {
			[]string{wantDisk(0), wantCached(0)},
			"the disk is not there",
			func(b *box) map[string]string { return map[string]string{wantDisk(0): b.disk, wantCached(0): b.disk} },
		},
		"directory of the store": {
			[]string{wantStore(0)},
			"the directory of the store cannot be had",
			func(b *box) map[string]string { return map[string]string{wantStore(0): b.store} },
		},
		"key": {
			[]string{wantKey(0)},
			"the encryption key cannot be had",
			func(*box) map[string]string { return map[string]string{wantKey(0): key} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := tenants(t, t.TempDir(),
				map[string]any{"name": "lacks", "size": boxVolume, "encryption": map[string]any{"key_file": key}},
				map[string]any{"name": "has", "size": boxVolume})
			b.host, b.secrets, b.missing = newHost(), map[string]string{wantKey(0): key}, tc.lacks
			f := b.start()
			volume := api.VolumeRequest{Name: "lacks"}
			v, err := invoke[api.Volume](t, f, api.MethodShow, volume)
			for err == nil && v.State == stateStarting {
				v, err = invoke[api.Volume](t, f, api.MethodShow, volume)
			}
			if err != nil || v.State != stateWaiting || !strings.Contains(v.Message, tc.says) || !strings.Contains(v.Message, "there is none") {
				t.Errorf("without it: %s, %s, %v", v.State, v.Message, err)
			}
			if name != "disk" { // they have it in common
				if err := b.export("has").Write(0, marker(), true); err != nil {
					t.Errorf("its neighbour: %v", err)
				}
			}
			for want, path := range tc.comes(b) {
				b.host.appear(want, path)
			}
			if err := b.export("lacks").Write(0, marker(), true); err != nil { // waits for the volume
				t.Errorf("when it is there: %v", err)
			}
		})
	}
}

// TestChangedOnItsWay: a volume that is changed while it is on its way up comes up as it is to be now.
func TestChangedOnItsWay(t *testing.T) {
	b := newBox(t, t.TempDir())
	b.host, b.missing = newHost(), []string{wantStore(0)}
	b.host.asks = make(chan struct{})
	b.host.appear(wantStore(0), b.store)
	f := b.start()
	<-b.host.asks // it has its settings, and waits for its store
	var s map[string]any
	if err := json.Unmarshal(b.section, &s); err != nil {
		t.Fatal(err)
	}
	v := s["volumes"].([]any)[0].(map[string]any)
	v["size"], v["upload"] = 2*boxVolume, map[string]any{"max_age": "20ms", "hold": true, "bandwidth": []any{map[string]any{"from": "00:00", "to": "24:00", "rate": "1MiB"}}}
	if err := f.Configure(t.Context(), plugin.Section{JSON: section(t, s)}); err != nil {
		t.Fatal(err)
	}
	b.host.asks <- struct{}{}
	if c := b.mustDial(); c.Size != 2*boxVolume {
		t.Errorf("clients see %d bytes", c.Size)
	}
	r := f.runners[0]
	if up, _, _ := r.current(); !up.Status().Held {
		t.Error("uploads are not held")
	}
	if l, _ := r.pace.current(); l == nil {
		t.Error("uploads have no limit")
	}
}

// TestDeleteWhatWaits: a volume that cannot come up can be deleted by force, and does not come up afterwards.
func TestDeleteWhatWaits(t *testing.T) {
	b := newBox(t, t.TempDir())
	b.host, b.missing = newHost(), []string{wantDisk(0)}
	f := b.start()
	release := api.ReleaseRequest{Name: boxName, Configured: true}
	if _, err := invoke[api.ReleaseReply](t, f, api.MethodRelease, release); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("not forced: %v", err)
	}
	release.Force = true
	for range 2 { // may be repeated
		if _, err := invoke[api.ReleaseReply](t, f, api.MethodRelease, release); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-f.runners[0].ended:
	default:
		t.Error("it is tried on")
	}
	if v, err := invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: boxName}); err != nil || v.State != "failed" || !strings.Contains(v.Message, "deleted") {
		t.Errorf("%s, %s, %v", v.State, v.Message, err)
	}
}
