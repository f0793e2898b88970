package gateway

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// TestHandover: clients keep their connection over a planned change of the process, and find what they wrote.
func TestHandover(t *testing.T) {
	b := newBox(t, t.TempDir())
	f := b.start()
	c, idle := b.mustDial(), b.mustDial()
	for round := range byte(3) {
		p := bytes.Repeat([]byte{'a' + round}, 64<<10)
		if err := c.Write(uint64(round)<<20, p, false); err != nil {
			t.Fatal(err)
		}
		l, err := f.Export(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Sockets) != 2 {
			t.Fatalf("%d connections are handed on", len(l.Sockets))
		}
		if err := f.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		next := New()
		if err := next.Import(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		f = b.startWith(next)
		got, err := c.Read(uint64(round)<<20, uint32(len(p)))
		if err != nil || !bytes.Equal(got, p) {
			t.Fatalf("after change %d: %v, same %v", round, err, bytes.Equal(got, p))
		}
		if err := idle.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHandoverBesideAFailure: a volume that has failed, or cannot be flushed, costs its own clients their connections, and no others.
func TestHandoverBesideAFailure(t *testing.T) {
	b := tenants(t, t.TempDir(), map[string]any{"name": "well", "size": boxVolume}, map[string]any{"name": "ill", "size": boxVolume})
	b.host = newHost()
	f := b.start()
	well, ill := b.export("well"), b.export("ill")
	m, err := invoke[api.MadeToken](t, f, api.MethodMake, api.TokenRequest{Name: "ill", Identity: "a"})
	if err != nil {
		t.Fatal(err)
	}
	withToken := b.export(m.Export)
	want := bytes.Repeat([]byte{'a'}, 64<<10)
	if err := well.Write(0, want, false); err != nil {
		t.Fatal(err)
	}
	v, _, _ := f.runners[1].current()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := f.Export(t.Context())
	if err != nil || len(l.Sockets) != 1 {
		t.Fatalf("%d connections are handed on: %v", len(l.Sockets), err)
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*nbdtest.Client{ill, withToken} {
		if err := c.Flush(); err == nil {
			t.Error("a client of a volume that could not be flushed goes on")
		}
	}
	next := New()
	if err := next.Import(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	b.startWith(next)
	if got, err := well.Read(0, uint32(len(want))); err != nil || !bytes.Equal(got, want) {
		t.Errorf("its neighbour: %v, same %v", err, bytes.Equal(got, want))
	}
}

// TestHandoverOfMany: where there are more connections than can be handed on, those of the targets go along.
func TestHandoverOfMany(t *testing.T) {
	g := legacy{open: true}
	defer g.close()
	socket := func() nbd.Handed {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return nbd.Handed{Socket: f}
	}
	first := socket()
	for i := range plugin.MaxSockets - 1 {
		c := socket()
		if i == 0 {
			c = first
		}
		if !g.add("tcp::10809", c) {
			t.Fatalf("connection %d is not handed on", i)
		}
	}
	for i, tc := range []struct {
		listen string
		taken  bool
		closed int
	}{
		{wantTargets, true, 0}, // the last place
		{"tcp::10809", false, 1},
		{wantTargets, true, 2},
	} {
		if taken := g.add(tc.listen, socket()); taken != tc.taken || g.closed != tc.closed || len(g.conns) != plugin.MaxSockets {
			t.Errorf("%d: taken %v, %d are handed on and %d closed", i, taken, len(g.conns), g.closed)
		}
	}
	if _, err := first.Socket.Stat(); err == nil {
		t.Error("the one whose place was taken is not closed")
	}
	if n := len(g.at(wantTargets)); n != 2 {
		t.Errorf("%d connections of targets, want 2", n)
	}
}

// TestHandoverOfNothing: what another release left, or a listener that is gone, costs a reconnect and nothing else.
func TestHandoverOfNothing(t *testing.T) {
	for name, state := range map[string]string{
		"noise": "{", "newer": `{"version": 9}`, "no sockets": `{"version": 1, "connections": [{"listen": "tcp::1"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			l := plugin.Luggage{State: []byte(state), Sockets: map[string]*os.File{"7": w, "8": r}}
			if err := New().Import(t.Context(), l); err == nil {
				t.Error("accepted")
			}
			if _, err := w.Write([]byte("x")); err == nil {
				t.Error("a socket stays open")
			}
		})
	}
	b := newBox(t, t.TempDir())
	f := b.start()
	c := b.mustDial()
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	l, err := f.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	l.State = bytes.Replace(l.State, []byte(`"listen":"`), []byte(`"listen":"other`), 1)
	next := New()
	if err := next.Import(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	b.startWith(next)
	if err := c.Flush(); err == nil {
		t.Error("a connection without a listener is served")
	}
}
