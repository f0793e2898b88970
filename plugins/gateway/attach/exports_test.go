package attach_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/attach"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

const (
	eperm     = nbdtest.Errno(1)
	eshutdown = nbdtest.Errno(108)
)

// volume is a Memory with a writer.
type volume struct {
	*nbdtest.Memory
	mu     sync.Mutex
	epoch  uint64
	writer [16]byte
}

func (v *volume) Writer() (uint64, [16]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.epoch, v.writer
}

func (v *volume) SetWriter(_ context.Context, epoch uint64, w [16]byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.epoch, v.writer = epoch, w
	return nil
}

// gateway serves the volume "vol" on two listeners: one for everyone, one whose clients are "target".
type gateway struct {
	*attach.Keeper
	public, private string
}

func serve(t *testing.T, v *volume, save func(attach.Registry) error) gateway {
	t.Helper()
	k := attach.NewKeeper(attach.Registry{}, save)
	k.Serve("vol", v)
	set := new(nbd.Set)
	check(t, set.Add(&nbd.Export{Name: "vol", Backend: v}))
	g := gateway{Keeper: k, public: filepath.Join(t.TempDir(), "public"), private: filepath.Join(t.TempDir(), "private")}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for addr, as := range map[string]string{g.public: "", g.private: "target"} {
		l, err := net.Listen("unix", addr)
		check(t, err)
		s := &nbd.Server{Exports: k.Exports(set, as)}
		wg.Go(func() {
			if err := s.Serve(ctx, l); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return g
}

func (g gateway) dial(t *testing.T, name string) *nbdtest.Client {
	t.Helper()
	c, err := nbdtest.Dial(t.Context(), "unix", g.public, name, nbdtest.Options{})
	check(t, err)
	t.Cleanup(c.Abandon)
	return c
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestTokens(t *testing.T) {
	g := serve(t, &volume{Memory: nbdtest.NewMemory(1 << 20)}, nil)
	check(t, g.dial(t, "vol").Write(0, []byte("open to all"), false))
	check(t, g.dial(t, "").Write(0, []byte("by default"), false))

	writer, err := g.Make("vol", "host-1", attach.ReadWrite)
	check(t, err)
	reader, err := g.Make("vol", "backup", attach.ReadOnly)
	check(t, err)
	if _, err := g.Make("vol", "backup", attach.ReadOnly); !errors.Is(err, attach.ErrTaken) {
		t.Errorf("second token: %v", err)
	}
	for _, name := range []string{"vol", "", "vol@", "vol@" + strings.ToLower(writer), "none@" + writer, "@"} {
		if _, err := nbdtest.Dial(t.Context(), "unix", g.public, name, nbdtest.Options{}); err == nil || !strings.Contains(err.Error(), "no such export") {
			t.Errorf("%q: %v, want what is said of an export that does not exist", name, err)
		}
	}
	w, r := g.dial(t, "vol@"+writer), g.dial(t, attach.ExportName("vol", reader))
	check(t, w.Write(0, []byte("x"), true))
	if r.Flags&2 == 0 {
		t.Error("a token to read only gets an export to write")
	}
	wantErr(t, "write with a token to read", r.Write(0, []byte("y"), false), eperm)
	if _, err := r.Read(0, 512); err != nil {
		t.Error(err)
	}

	check(t, g.Revoke("vol", "host-1"))
	if _, err := w.Read(0, 512); err == nil || errors.As(err, new(nbdtest.Errno)) {
		t.Errorf("read with a revoked token: %v, want the connection to end", err)
	}
	if _, err := nbdtest.Dial(t.Context(), "unix", g.public, "vol@"+writer, nbdtest.Options{}); err == nil {
		t.Error("a revoked token lets a client in")
	}
	if _, err := r.Read(0, 512); err != nil {
		t.Errorf("another token's connection: %v", err)
	}
	// Clients of a listener that not everyone can reach need no token.
	c, err := nbdtest.Dial(t.Context(), "unix", g.private, "vol", nbdtest.Options{})
	check(t, err)
	check(t, c.Write(0, []byte("x"), false))
	check(t, c.Close())
}

func TestTokensAreKeptBeforeTheyCount(t *testing.T) {
	full := errors.New("disk full")
	var fail bool
	g := serve(t, &volume{Memory: nbdtest.NewMemory(1 << 20)}, func(attach.Registry) error {
		if fail {
			return full
		}
		return nil
	})
	secret, err := g.Make("vol", "host-1", attach.ReadWrite)
	check(t, err)
	fail = true
	wantErr(t, "revoke", g.Revoke("vol", "host-1"), full)
	g.dial(t, "vol@"+secret) // as if nothing had happened
	if _, err := g.Make("vol", "host-2", attach.ReadWrite); !errors.Is(err, full) || len(g.List("vol")) != 1 {
		t.Errorf("make: %v, tokens %v", err, g.List("vol"))
	}
}

// TestHandover moves a volume between two connected clients, as a migration does, and back.
func TestHandover(t *testing.T) {
	v := &volume{Memory: nbdtest.NewMemory(1 << 20)}
	g := serve(t, v, nil)
	name := make(map[string]string)
	for _, id := range []string{"source", "destination"} {
		secret, err := g.Make("vol", id, attach.ReadWrite)
		check(t, err)
		name[id] = "vol@" + secret
	}
	src, dst := g.dial(t, name["source"]), g.dial(t, name["destination"])
	check(t, src.Write(0, []byte("before"), false))
	for range 2 { // it may be repeated
		epoch, err := g.Handover(t.Context(), "vol", "source", "destination")
		if err != nil || epoch != 1 {
			t.Fatalf("handover: epoch %d, %v", epoch, err)
		}
	}
	if v.Flushes == 0 {
		t.Error("nothing was flushed")
	}
	wantErr(t, "source writes", src.Write(0, []byte("late"), false), eshutdown)
	wantErr(t, "source writes durably", src.Write(0, []byte("late"), true), eshutdown)
	wantErr(t, "source trims", src.Trim(0, 4096), eshutdown)
	wantErr(t, "source flushes", src.Flush(), nil)
	check(t, dst.Write(4096, []byte("after"), false))
	if got, err := src.Read(4096, 5); err != nil || string(got) != "after" {
		t.Errorf("source reads %q, %v", got, err)
	}
	_, err := g.Handover(t.Context(), "vol", "source", "target", "target")
	wantErr(t, "handover by who does not have it", err, attach.ErrNotFrom)
	_, err = g.Handover(t.Context(), "vol", "destination", "nobody")
	wantErr(t, "handover to nobody", err, attach.ErrNoToken)
	_, err = g.Handover(t.Context(), "none", "destination", "source")
	wantErr(t, "handover of another volume", err, attach.ErrNotServed)

	epoch, err := g.Handover(t.Context(), "vol", "destination", "source")
	if err != nil || epoch != 2 {
		t.Fatalf("back: epoch %d, %v", epoch, err)
	}
	check(t, src.Write(0, []byte("again"), false))
	wantErr(t, "destination writes", dst.Write(0, []byte("late"), false), eshutdown)

	gate, err := g.Gate("vol")
	check(t, err)
	var log []map[string]uint64
	for _, term := range gate.Terms() {
		log = append(log, term.Writes)
	}
	if len(log) != 3 || log[0]["source"] != 1 || log[1]["destination"] != 1 || log[2]["source"] != 1 || len(log[1]) != 1 {
		t.Errorf("writes by epoch: %v", log)
	}
}
