package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

func TestDivide(t *testing.T) {
	volume := func(name string, share int, size plugin.Size) VolumeConfig {
		return VolumeConfig{Name: name, Share: share, CacheSize: size}
	}
	for _, tc := range []struct {
		free    int64
		volumes []VolumeConfig
		want    string
	}{
		{1 << 30, nil, ""},
		{1 << 30, []VolumeConfig{volume("a", 1, 0)}, "a 1024"},
		{1 << 30, []VolumeConfig{volume("a", 1, 0), volume("b", 3, 0)}, "a 256, b 768"},
		{1 << 30, []VolumeConfig{volume("a", 1, 512<<20), volume("b", 1, 0), volume("c", 1, 0)}, "a 512, b 256, c 256"},
		{1 << 30, []VolumeConfig{volume("a", 1, 2<<30), volume("b", 1, 0), volume("c", 1, 256<<20), volume("d", 1, 1<<30)}, "a 2048, b 768, c 256, d 1024"}, // a and d are refused
		{64 << 20, []VolumeConfig{volume("a", 1, 60<<20), volume("b", 1, 0)}, "a 60, b 8"},                                                                  // b is not there; Create says so
	} {
		var got []string
		for _, p := range divide(tc.free, tc.volumes) {
			got = append(got, fmt.Sprintf("%s %d", p.volume, p.size>>20))
		}
		if s := strings.Join(got, ", "); s != tc.want {
			t.Errorf("%d MiB: %s, want %s", tc.free>>20, s, tc.want)
		}
	}
}

// tenants makes a box whose disk has several volumes.
func tenants(t *testing.T, store string, volumes ...map[string]any) *box {
	t.Helper()
	b := newBox(t, store)
	var list []any
	for _, v := range volumes {
		v["disk"] = "file:" + b.disk
		v["store"] = map[string]any{"driver": "dir", "path": store}
		v["ring"] = "8MiB"
		list = append(list, v)
	}
	b.section = section(t, map[string]any{"volumes": list})
	b.tenants = len(list)
	return b
}

// TestSeveralVolumesOnOneDisk: each has its part and its data; one that goes gives its part back, and one that comes takes it.
func TestSeveralVolumesOnOneDisk(t *testing.T) {
	store := t.TempDir()
	one := map[string]any{"name": "one", "size": "16MiB", "cache_size": "64MiB"}
	two := map[string]any{"name": "two", "size": "32MiB", "share": 2}
	b := tenants(t, store, one, two)
	b.grow(192 << 20)
	f := b.start()
	write := func(name string, fill byte) {
		t.Helper()
		c := b.export(name)
		if err := c.Write(1<<20, bytes.Repeat([]byte{fill}, 1<<20), true); err != nil {
			t.Fatal(err)
		}
	}
	reads := func(name string, fill byte) {
		t.Helper()
		p, err := b.export(name).Read(1<<20, 1<<20)
		if err != nil || !bytes.Equal(p, bytes.Repeat([]byte{fill}, 1<<20)) {
			t.Errorf("%s: read %x… %v, want %x", name, p[:4], err, fill)
		}
	}
	write("one", 1)
	write("two", 2)
	list, err := invoke[api.ListReply](t, f, api.MethodList, struct{}{})
	if err != nil || list.Volumes[0].LogSize > 64<<20 || list.Volumes[1].LogSize < 100<<20 {
		t.Errorf("sizes: %+v, %v", list, err)
	}
	for _, name := range []string{"one", "two"} {
		if _, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := invoke[api.ReleaseReply](t, f, api.MethodRelease, api.ReleaseRequest{Name: "one"}); err == nil {
		t.Error("the disk space of a configured volume was given back")
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	// One leaves, three comes: there is no room before the space is given back.
	three := map[string]any{"name": "three", "size": "16MiB", "cache_size": "48MiB"}
	b.section = tenantsOf(t, b, store, two, three)
	f = b.start()
	reads("two", 2)
	v, err := invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: "three"})
	if err != nil || v.State != "failed" || !strings.Contains(v.Message, "no room on the disk for volume three, which takes 48MiB") {
		t.Errorf("three: %+v, %v", v, err)
	}
	alerts := event(f.runners, f.disks).GetTables()[1]
	if text := fmt.Sprint(alerts); !strings.Contains(text, "ratchetctl volume release one") {
		t.Errorf("alerts: %s", text)
	}
	r, err := invoke[api.ReleaseReply](t, f, api.MethodRelease, api.ReleaseRequest{Name: "one"})
	if err != nil || r.Bytes != 64<<20 {
		t.Errorf("release: %+v, %v", r, err)
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	f = b.start()
	write("three", 3)
	reads("two", 2)
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	// One comes back to where three was, and has its data from the store.
	one["cache_size"] = "32MiB"
	b.section = tenantsOf(t, b, store, two, one)
	f = b.start()
	if _, err := invoke[api.ReleaseReply](t, f, api.MethodRelease, api.ReleaseRequest{Name: "three"}); err != nil {
		t.Fatal(err)
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	f = b.start()
	reads("one", 1)
	reads("two", 2)

	// A configured volume that is deleted is closed at once, and its neighbour goes on.
	c := b.export("one")
	if _, err := invoke[api.ReleaseReply](t, f, api.MethodRelease, api.ReleaseRequest{Name: "one", Configured: true}); err == nil || !strings.Contains(err.Error(), "clients are connected") {
		t.Errorf("a volume in use was deleted: %v", err)
	}
	if _, err := c.Read(0, 4096); err != nil {
		t.Errorf("a volume that was not deleted: %v", err)
	}
	b.export("one").Abandon() // it is open to new clients again
	for range 2 {
		if _, err := invoke[api.ReleaseReply](t, f, api.MethodRelease, api.ReleaseRequest{Name: "one", Configured: true, Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Read(0, 4096); err == nil {
		t.Error("a deleted volume is read")
	}
	reads("two", 2)
	if v, err := invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: "one"}); err != nil || v.State != "failed" || !strings.Contains(v.Message, "deleted") {
		t.Errorf("the deleted volume: %+v, %v", v, err)
	}
}

// TestReleaseOfWhatMoved: a volume that has been given another disk leaves its part of the old one behind, which can be given back
// while it serves; its own part cannot, and goes with the volume.
func TestReleaseOfWhatMoved(t *testing.T) {
	store := t.TempDir()
	stays, moves := map[string]any{"name": "stays", "size": "16MiB", "cache_size": "64MiB"}, map[string]any{"name": "moves", "size": "16MiB", "cache_size": "64MiB"}
	b := tenants(t, store, stays, moves)
	b.grow(192 << 20)
	f := b.start()
	if err := b.export("moves").Write(0, marker(), true); err != nil {
		t.Fatal(err)
	}
	if _, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: "moves"}); err != nil {
		t.Fatal(err)
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, make([]byte, 96<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	var s map[string]any
	if err := json.Unmarshal(b.section, &s); err != nil {
		t.Fatal(err)
	}
	s["volumes"].([]any)[1].(map[string]any)["disk"] = "file:" + other
	b.section, b.host = section(t, s), newHost()
	b.host.appear(wantDisk(1), other)
	b.host.appear(wantCached(1), other)
	f = b.start()
	c := b.export("moves")
	reads := func() {
		t.Helper()
		if p, err := c.Read(0, uint32(len(marker()))); err != nil || !bytes.Equal(p, marker()) {
			t.Errorf("the volume that moved: %v, same %t", err, bytes.Equal(p, marker()))
		}
	}
	reads()
	if text := fmt.Sprint(event(f.runners, f.disks).GetTables()[1]); !strings.Contains(text, "ratchetctl volume release moves") {
		t.Errorf("alerts: %s", text)
	}
	r, err := invoke[api.ReleaseReply](t, f, api.MethodRelease, api.ReleaseRequest{Name: "moves"})
	if err != nil || r.Bytes != 64<<20 || r.Disk != "serial:test" {
		t.Errorf("what it left behind: %+v, %v", r, err)
	}
	if _, err := invoke[api.ReleaseReply](t, f, api.MethodRelease, api.ReleaseRequest{Name: "moves"}); err == nil || !strings.Contains(err.Error(), "is configured") {
		t.Errorf("what it has: %v", err)
	}
	reads()
	if r, err := invoke[api.ReleaseReply](t, f, api.MethodRelease, api.ReleaseRequest{Name: "moves", Configured: true, Force: true}); err != nil || r.Disk != other {
		t.Errorf("with the volume: %+v, %v", r, err)
	}
}

// TestDeleteInterrupted: the power fails after the space was given back and before the configuration was changed. The
// volume is there again, with what was written in the last moment.
func TestDeleteInterrupted(t *testing.T) {
	b := newBox(t, t.TempDir())
	f := b.start()
	c := b.mustDial()
	want := marker()
	if err := c.Write(1<<20, want, false); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(time.Millisecond) { // until the server has seen its end
		r, err := invoke[api.ReleaseReply](t, f, api.MethodRelease, api.ReleaseRequest{Name: boxName, Configured: true})
		if err == nil && r.Bytes > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("release: %+v, %v", r, err)
		}
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	f = b.start()
	until(t, f, "attached")
	if got, err := b.mustDial().Read(1<<20, uint32(len(want))); err != nil || !bytes.Equal(got, want) {
		t.Errorf("after a delete that was interrupted: %v, same %t", err, bytes.Equal(got, want))
	}
	if v, err := invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: boxName}); err != nil || v.Misses == 0 {
		t.Errorf("it did not come from the store: %+v, %v", v, err)
	}
}

func tenantsOf(t *testing.T, b *box, store string, volumes ...map[string]any) []byte {
	t.Helper()
	next := tenants(t, store, volumes...)
	b.tenants = len(volumes)
	return bytes.ReplaceAll(next.section, []byte(filepath.Base(filepath.Dir(next.disk))+"/disk"), []byte(filepath.Base(filepath.Dir(b.disk))+"/disk"))
}

// TestLive changes what can be changed while clients are connected.
func TestLive(t *testing.T) {
	b := newBox(t, t.TempDir())
	f := b.start()
	c := b.mustDial()
	change := func(edit func(volume map[string]any)) error {
		t.Helper()
		var s map[string]any
		if err := json.Unmarshal(b.section, &s); err != nil {
			t.Fatal(err)
		}
		edit(s["volumes"].([]any)[0].(map[string]any))
		p := section(t, s)
		err := f.Configure(t.Context(), plugin.Section{JSON: p})
		if err == nil {
			b.section = p
		}
		return err
	}
	if err := change(func(v map[string]any) { v["size"] = 2 * boxVolume; v["warn_at"] = 10 }); err != nil {
		t.Fatal(err)
	}
	v, err := invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: "demo"})
	if err != nil || v.Size != 2*boxVolume || v.WarnAt != 10 {
		t.Errorf("after growing: %+v, %v", v, err)
	}
	if again := b.mustDial(); again.Size != 2*boxVolume {
		t.Errorf("a new client sees %d bytes", again.Size)
	}
	if err := change(func(v map[string]any) { v["upload"].(map[string]any)["hold"] = true }); err != nil {
		t.Fatal(err)
	}
	if err := c.Write(0, make([]byte, 4096), true); err != nil {
		t.Fatal(err)
	}
	if _, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: "demo"}); !errors.Is(err, errHeld) {
		t.Errorf("flush while uploads are held: %v", err)
	}
	if err := change(func(v map[string]any) { v["upload"].(map[string]any)["hold"] = false }); err != nil {
		t.Fatal(err)
	}
	if _, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: "demo"}); err != nil {
		t.Error(err)
	}
	if err := change(func(v map[string]any) { v["size"] = boxVolume }); err == nil || !strings.Contains(err.Error(), "--shrink") {
		t.Errorf("a smaller size: %v", err)
	}
	smaller := func() []plugin.Diagnostic {
		t.Helper()
		var s map[string]any
		if err := json.Unmarshal(b.section, &s); err != nil {
			t.Fatal(err)
		}
		s["volumes"].([]any)[0].(map[string]any)["size"] = boxVolume
		return f.Validate(t.Context(), plugin.Section{JSON: section(t, s)}).Diagnostics
	}
	if found := smaller(); len(found) != 1 || found[0].GetPath() != "volumes[0].size" || !strings.Contains(found[0].GetMessage(), "--shrink") {
		t.Errorf("a smaller size is found to be %v", found)
	}
	if _, err := invoke[api.Volume](t, f, api.MethodShrink, api.ShrinkRequest{Name: "demo", Size: boxVolume}); err != nil {
		t.Error(err)
	}
	if found := smaller(); len(found) != 0 {
		t.Errorf("what the volume has already is found to be %v", found)
	}
	if err := change(func(v map[string]any) { v["size"] = boxVolume }); err != nil {
		t.Errorf("what the volume has already: %v", err)
	}
	if err := change(func(v map[string]any) { v["ring"] = "64MiB" }); err == nil || !strings.Contains(err.Error(), "restart") {
		t.Errorf("another ring: %v", err)
	}
	if err := c.Flush(); err != nil {
		t.Errorf("the first client: %v", err)
	}
	r, err := invoke[api.EvictReply](t, f, api.MethodEvict, api.EvictRequest{Name: "demo"})
	if err != nil {
		t.Errorf("evict: %+v, %v", r, err)
	}
}

// TestExportsLive: who may use an export, and where, is the companion's: the gateway goes on. Which volumes are exported decides who
// may write to them, and needs another process.
func TestExportsLive(t *testing.T) {
	b := newBox(t, t.TempDir())
	f := b.start()
	c := b.mustDial()
	f.mu.Lock() // as if a target had been there at the start: this box has no socket for one
	f.section.JSON = withTarget(t, b.section, map[string]any{"iscsi": map[string]any{"exports": []any{map[string]any{"volume": boxName, "any_initiator": true}}}})
	f.mu.Unlock()
	others := map[string]any{"listen": []any{"10.0.0.1:3260"}, "exports": []any{map[string]any{"volume": boxName, "initiators": []any{"iqn.2026-01.test:host"}}}}
	if err := f.Configure(t.Context(), plugin.Section{JSON: withTarget(t, b.section, map[string]any{"iscsi": others})}); err != nil {
		t.Errorf("other initiators: %v", err)
	}
	if err := c.Flush(); err != nil {
		t.Error(err)
	}
	a, err := invoke[api.Attach](t, f, api.MethodAttach, api.VolumeRequest{Name: boxName})
	if err != nil || len(a.Targets) != 1 || a.Targets[0].Portals[0] != "10.0.0.1:3260" {
		t.Errorf("attach: %+v, %v", a, err)
	}
	if err := f.Configure(t.Context(), plugin.Section{JSON: b.section}); !errors.Is(err, plugin.ErrNeedsRestart) {
		t.Errorf("no export any more: %v", err)
	}
}

// withTarget is a section with another target.
func withTarget(t *testing.T, of []byte, target map[string]any) []byte {
	t.Helper()
	var s map[string]any
	if err := json.Unmarshal(of, &s); err != nil {
		t.Fatal(err)
	}
	s["target"] = target
	return section(t, s)
}

// TestAllOrNothing: what one volume cannot have keeps a change of all of them from being made, so that the configuration that goes on
// is still that of every volume. With some of it made, a volume that had grown was refused its own size, and failed at the next start.
func TestAllOrNothing(t *testing.T) {
	one := map[string]any{"name": "one", "size": boxVolume}
	two := map[string]any{"name": "two", "size": boxVolume}
	b := tenants(t, t.TempDir(), one, two)
	f := b.start()
	b.export("one").Abandon()
	b.export("two").Abandon()
	was := b.section
	one["size"], two["size"] = 2*boxVolume, boxVolume/2
	err := f.Configure(t.Context(), plugin.Section{JSON: tenantsOf(t, b, b.store, one, two)})
	if err == nil || !strings.Contains(err.Error(), "volume two") {
		t.Errorf("a smaller size: %v", err)
	}
	if c := b.export("one"); c.Size != boxVolume {
		t.Errorf("its neighbour has %d bytes", c.Size)
	}
	if err := f.Configure(t.Context(), plugin.Section{JSON: was}); err != nil {
		t.Errorf("the configuration that it has: %v", err)
	}
}

// TestTooSmall: a volume whose configuration has less than its disk fails, says what to do, and comes up when that is done.
func TestTooSmall(t *testing.T) {
	b := newBox(t, t.TempDir())
	f := b.start()
	until(t, f, "attached")
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	right := b.section
	var s map[string]any
	if err := json.Unmarshal(right, &s); err != nil {
		t.Fatal(err)
	}
	s["volumes"].([]any)[0].(map[string]any)["size"] = boxVolume / 2
	b.section = section(t, s)
	f = b.start()
	if v := until(t, f, "failed"); !strings.Contains(v.Message, "volume resize") || !strings.Contains(v.Message, "--shrink") {
		t.Errorf("message: %s", v.Message)
	}
	if err := f.Configure(t.Context(), plugin.Section{JSON: right}); !errors.Is(err, plugin.ErrNeedsRestart) {
		t.Errorf("its size in the configuration: %v", err)
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.section = right
	until(t, b.start(), "attached")
}

// TestTokens: with a token a volume is closed to others, also after a restart; handover gives the right to write away.
func TestTokens(t *testing.T) {
	b := newBox(t, t.TempDir())
	b.host = newHost()
	f := b.start()
	anyone := b.mustDial()
	if err := anyone.Write(0, make([]byte, 4096), true); err != nil {
		t.Fatal(err)
	}
	made := map[string]string{}
	for _, who := range []string{"a", "b"} {
		m, err := invoke[api.MadeToken](t, f, api.MethodMake, api.TokenRequest{Name: "demo", Identity: who})
		if err != nil {
			t.Fatal(err)
		}
		made[who] = m.Export
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	f = b.start()
	if c, err := nbdtest.Dial(t.Context(), "unix", b.listener.Addr().String(), "demo", nbdtest.Options{}); err == nil {
		c.Abandon()
		t.Error("a client without a token is let in")
	}
	from, to := b.export(made["a"]), b.export(made["b"])
	if err := from.Write(0, bytes.Repeat([]byte{1}, 4096), false); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it may be repeated
		h, err := invoke[api.HandoverReply](t, f, api.MethodHandover, api.HandoverRequest{Name: "demo", From: "a", To: "b"})
		if err != nil || h.Epoch != 1 {
			t.Fatalf("handover: %+v, %v", h, err)
		}
	}
	if err := from.Write(0, make([]byte, 4096), false); err == nil {
		t.Error("the former writer writes")
	}
	if p, err := from.Read(0, 4096); err != nil || p[0] != 1 {
		t.Errorf("the former writer reads %x, %v", p[:1], err)
	}
	if err := to.Write(4096, make([]byte, 4096), false); err != nil {
		t.Error(err)
	}
	w, err := invoke[api.WritersReply](t, f, api.MethodWriters, api.VolumeRequest{Name: "demo"})
	if err != nil || len(w.Terms) != 2 || w.Terms[0].Writes["a"] != 1 || w.Terms[1].Writes["b"] != 1 || w.Terms[1].Refused["a"] != 1 || w.Connections["a"] != 1 {
		t.Errorf("writers: %+v, %v", w, err)
	}
	if _, err := invoke[api.HandoverReply](t, f, api.MethodHandover, api.HandoverRequest{Name: "demo", From: "b", To: "c"}); err == nil {
		t.Error("handed over to nobody")
	}
	if _, err := invoke[struct{}](t, f, api.MethodRevoke, api.TokenRequest{Name: "demo", Identity: "a"}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); from.Flush() == nil; {
		if time.Now().After(end) {
			t.Fatal("a client whose token was revoked stays")
		}
	}
}
