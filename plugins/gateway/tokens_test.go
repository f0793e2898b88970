package gateway

import (
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

// TestOpenAfterHandover names the writer of a volume that was handed over, also after a restart and when its token is gone,
// and lets everyone write again with `volume token open`.
func TestOpenAfterHandover(t *testing.T) {
	b := newBox(t, t.TempDir())
	b.host = newHost()
	f := b.start()
	write := func(export string) error {
		c := b.export(export)
		defer c.Abandon()
		return c.Write(0, make([]byte, 4096), true)
	}
	if err := b.mustDial().Write(0, make([]byte, 4096), true); err != nil {
		t.Fatal(err)
	}
	token := func(who string) string {
		t.Helper()
		m, err := invoke[api.MadeToken](t, f, api.MethodMake, api.TokenRequest{Name: boxName, Identity: who})
		if err != nil {
			t.Fatal(err)
		}
		return m.Export
	}
	a := token("a")
	token("b")
	if _, err := invoke[api.HandoverReply](t, f, api.MethodHandover, api.HandoverRequest{Name: boxName, From: "a", To: "b"}); err != nil {
		t.Fatal(err)
	}
	if err := write(a); err == nil {
		t.Error("another than the writer writes")
	}
	writer := func(want string) {
		t.Helper()
		volume := api.VolumeRequest{Name: boxName}
		v, err := invoke[api.Volume](t, f, api.MethodShow, volume)
		if err != nil || v.Writer != want {
			t.Errorf("show: writer %q, want %q, %v", v.Writer, want, err)
		}
		k, err := invoke[api.TokensReply](t, f, api.MethodTokens, volume)
		if err != nil || k.Writer != want {
			t.Errorf("tokens: writer %q, want %q, %v", k.Writer, want, err)
		}
		w, err := invoke[api.WritersReply](t, f, api.MethodWriters, volume)
		if err != nil || w.Writer != want {
			t.Errorf("writers: writer %q, want %q, %v", w.Writer, want, err)
		}
	}
	restart := func() {
		t.Helper()
		if err := f.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		f = b.start()
	}
	writer("b")
	if _, err := invoke[struct{}](t, f, api.MethodRevoke, api.TokenRequest{Name: boxName, Identity: "b"}); err != nil {
		t.Fatal(err)
	}
	restart()
	writer("b")
	delete(b.host.keys, writersKey) // handed over by a release that did not keep it
	restart()
	if v, err := invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: boxName}); err != nil || !strings.HasPrefix(v.Writer, "unknown-") {
		t.Errorf("writer %q whose name nobody knows, %v", v.Writer, err)
	}
	if _, err := invoke[struct{}](t, f, api.MethodOpen, api.VolumeRequest{Name: boxName}); err != nil {
		t.Fatal(err)
	}
	writer("")
	restart()
	writer("")
	if err := write(boxName); err != nil {
		t.Errorf("a client without a token: the volume is open to everyone: %v", err)
	}
	if err := write(token("c")); err != nil {
		t.Errorf("a client with a token: everyone writes: %v", err)
	}
	if _, err := invoke[api.HandoverReply](t, f, api.MethodHandover, api.HandoverRequest{Name: boxName, From: "a", To: "c"}); err != nil {
		t.Errorf("hand over once more: %v", err)
	}
	writer("c")
}
