package gateway

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"testing"

	"github.com/ratchetos/ratchet/core/plugin"
)

// FuzzSection takes sections of the configuration: what passes can be configured and compared with itself.
func FuzzSection(f *testing.F) {
	f.Add([]byte(`{"volumes":[{"name":"a","size":"1GiB","disk":"serial:x","store":{"driver":"dir","path":"/s"},"upload":{"bandwidth":[{"from":"08:00","to":"24:00","rate":"1MiB"}]}}]}`))
	f.Add([]byte(`{"volumes":[{"name":"a","size":4096,"disk":"file:/d","store":{"driver":"s3","endpoint":"http://h","bucket":"b"},"encryption":{"key":"00"}}],"nbd":{"listen":["unix:/s"],"tls":{"certificate":"file:/c","key":"-----BEGIN X"}}}`))
	f.Add([]byte(`{"target":{"iscsi":{"exports":[{"volume":"a","any_initiator":true}]}},"scrub":{"every":"1h","rate":"1MiB"}}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		c, v := parse(plugin.Section{JSON: p})
		if v.Err() != nil {
			return
		}
		if !sameButLive(c, c) {
			t.Fatal("a section differs from itself")
		}
		if err := New().Configure(t.Context(), plugin.Section{JSON: p}); err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, w := range v.Wants {
			if names[w.GetName()] || w.GetName() == "" {
				t.Fatalf("two wants are called %q", w.GetName())
			}
			names[w.GetName()] = true
		}
	})
}

// FuzzInvoke takes management calls of clients that core let through, of a gateway without volumes and of one that has
// not started.
func FuzzInvoke(f *testing.F) {
	for i := range commands() {
		f.Add(uint8(i), []byte(`{"name":"demo"}`))
	}
	f.Add(uint8(0), []byte(`{"name":"demo","size":18446744073709551615,"bytes":-1}`))
	running := New()
	if err := running.Configure(f.Context(), plugin.Section{JSON: []byte("{}")}); err != nil {
		f.Fatal(err)
	}
	if err := running.Start(f.Context(), &plugin.Session{Report: func(plugin.Event) {}, Log: slog.New(slog.DiscardHandler)}); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = running.Stop(context.Background()) })
	f.Fuzz(func(t *testing.T, method uint8, request []byte) {
		list := commands()
		name := list[int(method)%len(list)].method.GetName()
		if _, err := New().Invoke(t.Context(), name, request); err == nil {
			t.Fatal("answered before the start")
		}
		if reply, err := running.Invoke(t.Context(), name, request); err == nil && !json.Valid(reply) {
			t.Fatalf("%q", reply)
		}
	})
}

// FuzzImport takes what the process before has left of its connections.
func FuzzImport(f *testing.F) {
	f.Add([]byte(`{"version":1,"connections":[{"listen":"tcp::10809"}]}`), true)
	f.Add([]byte(`{"version":1,"connections":null}`), false)
	f.Fuzz(func(t *testing.T, state []byte, socket bool) {
		l := plugin.Luggage{State: state, Sockets: map[string]*os.File{}}
		if socket {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			w.Close()
			defer r.Close()
			l.Sockets["0"] = r
		}
		g := New()
		if err := g.Import(t.Context(), l); err == nil && len(g.inherited.conns) > len(l.Sockets) {
			t.Fatalf("%d connections of %d sockets", len(g.inherited.conns), len(l.Sockets))
		}
		g.inherited.close()
	})
}
