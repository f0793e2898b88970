package qmp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/pki"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/vmhosttest"
	"github.com/ratchetos/ratchet/qemu/lab"
)

// callLimit bounds what no test should come near to.
const callLimit = time.Minute

// world is two hosts with a VM on the first.
type world struct {
	*testing.T
	*vmhosttest.Hosts
	ctx  context.Context
	a, b hypervisor.Port
	move hypervisor.Move
}

func start(t *testing.T, change func(h *vmhosttest.Hosts, s *model.Shape)) *world {
	t.Helper()
	return startOn(t, hosts(t), change)
}

func startOn(t *testing.T, h *vmhosttest.Hosts, change func(h *vmhosttest.Hosts, s *model.Shape)) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	t.Cleanup(cancel)
	s := small()
	if change != nil {
		change(h, &s)
	}
	if err := h.Host("a").Start(ctx, s, vmhost.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, Hosts: h, ctx: ctx}
	w.a, w.b = open(t, h)
	s, err := w.a.Describe(ctx, "vm1")
	if err != nil {
		t.Fatal(err)
	}
	w.move = hypervisor.Move{ID: "m1", Epoch: h.Epoch(), VM: "vm1", Shape: s, From: "a", To: "b"}
	return w
}

func (w *world) prepare() hypervisor.Arrival {
	w.Helper()
	ticket, err := w.a.Begin(w.ctx, w.move)
	if err != nil {
		w.Fatal(err)
	}
	arrival, err := w.b.Prepare(w.ctx, w.move, ticket)
	if err != nil {
		w.Fatal(err)
	}
	return arrival
}

func (w *world) perform(a hypervisor.Arrival) hypervisor.Transfer {
	w.Helper()
	x, err := w.a.Perform(w.ctx, w.move, a, hypervisor.Options{})
	if err != nil {
		w.Fatal(err)
	}
	return x
}

func (w *world) finish(x hypervisor.Transfer) {
	w.Helper()
	for _, step := range []func() error{
		func() error { return x.Switchover(w.ctx) },
		func() error { return x.Complete(w.ctx) },
		func() error { return w.b.Finish(w.ctx, w.move, true) },
		func() error { return w.a.Confirm(w.ctx, w.move, true) },
	} {
		if err := step(); err != nil {
			w.Fatal(err)
		}
	}
}

// TestStrangers: who is not the source of the move neither gets in nor does the destination harm (invariant M4).
func TestStrangers(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	arrival := w.prepare()
	address := strings.TrimPrefix(arrival.Address, "tcp:")
	file, err := w.Authority.Enroll(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "c.pem")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	third, err := pki.ReadIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	// Without TLS, and with garbage: it is hung up on.
	plain, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	plain.SetDeadline(time.Now().Add(20 * time.Second))
	plain.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	for err = nil; err == nil; {
		_, err = plain.Read(make([]byte, 100))
	}
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Error("a connection without TLS was kept")
	}
	plain.Close()
	// Another host of the same authority: its certificate is good, its name is not that of the source.
	other, err := tls.Dial("tcp", address, third.ClientTLS("b"))
	if err == nil {
		other.SetDeadline(time.Now().Add(20 * time.Second))
		other.Write([]byte("QEVM\x00\x00\x00\x03"))
		if _, err = other.Read(make([]byte, 1)); err == nil {
			t.Error("another host than the source was let in")
		}
		other.Close()
	}
	if s, err := w.b.Status(w.ctx, "vm1"); err != nil || s != hypervisor.Incoming {
		t.Fatalf("after strangers had come the destination is %s (%v)", s, err)
	}
	w.finish(w.perform(arrival))
	if s, err := w.b.Status(w.ctx, "vm1"); err != nil || s != hypervisor.Running {
		t.Errorf("the VM is %s (%v)", s, err)
	}
}

// TestLocalDisk: a disk that only the source has is the same at the destination, and gone from there when the move is undone.
func TestLocalDisk(t *testing.T) {
	t.Parallel()
	content := make([]byte, 3<<20)
	rand.Read(content)
	var there string
	w := start(t, func(h *vmhosttest.Hosts, s *model.Shape) {
		here := filepath.Join(h.Disks("a"), "d0.img")
		there = filepath.Join(h.Disks("b"), "d0.img")
		if err := os.WriteFile(here, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s.Disks = []model.Disk{{ID: "d0", Model: "virtio-blk-pci", Serial: "s0", Size: uint64(len(content)), Source: model.Source{Local: here}}}
	})
	w.move.Shape.Disks = slices.Clone(w.move.Shape.Disks)
	w.move.Shape.Disks[0].Source.Local = there
	undo := func() {
		if err := w.b.Finish(w.ctx, w.move, false); err != nil {
			t.Fatal(err)
		}
		if err := w.a.Confirm(w.ctx, w.move, false); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(there); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the disk of a discarded destination: %v", err)
		}
		if s, err := w.a.Status(w.ctx, "vm1"); err != nil || s != hypervisor.Running {
			t.Fatalf("undone, and the VM is %s (%v)", s, err)
		}
	}
	w.prepare()
	undo()
	x := w.perform(w.prepare())
	if err := x.Cancel(w.ctx); err != nil {
		t.Fatal(err)
	}
	undo()
	x = w.perform(w.prepare())
	if err := x.Switchover(w.ctx); err != nil {
		t.Fatal(err)
	}
	if err := x.Complete(w.ctx); err != nil {
		t.Fatal(err)
	}
	undo()
	w.finish(w.perform(w.prepare()))
	got, err := os.ReadFile(there)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes at the destination, the same: %v (%v)", len(got), bytes.Equal(got, content), err)
	}
}

// TestWitness ends a source at the switch, as it stands there and once QEMU has let it run again by itself: its host knows which
// of the two it was (invariant M1).
func TestWitness(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"standing still": true, "run on": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			x := w.perform(w.prepare())
			if err := x.Switchover(w.ctx); err != nil {
				t.Fatal(err)
			}
			if !want {
				if err := w.Host("b").Kill("vm1"); err != nil {
					t.Fatal(err)
				}
				if err := x.Complete(w.ctx); err == nil {
					t.Fatal("completed without a destination")
				}
				for s := hypervisor.Unknown; s != hypervisor.Running; {
					var err error
					if s, err = w.a.Status(w.ctx, "vm1"); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Host("a").Kill("vm1"); err != nil {
				t.Fatal(err)
			}
			if still, err := w.a.(hypervisor.Witness).StoodStill(w.ctx, w.move); err != nil || still != want {
				t.Errorf("stood still %t, %v", still, err)
			}
		})
	}
}

// TestEverythingIsSaid: a QEMU keeps capabilities and parameters of an earlier move. Each transfer sets all of them, on both
// sides, and waits for both sides before it says that it is complete (invariant M1).
func TestEverythingIsSaid(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	var mu sync.Mutex
	var lines []string // "host command arguments"
	watch := func(name string) hypervisor.Port {
		p, err := w.Dial(w.ctx, name, func(_ string, sent bool, line []byte) {
			var c struct {
				Execute   string
				Arguments json.RawMessage
			}
			if !sent || json.Unmarshal(line, &c) != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, name+" "+c.Execute+" "+string(c.Arguments))
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	}
	w.a, w.b = watch("a"), watch("b")
	w.finish(w.perform(w.prepare()))
	find := func(prefix string) (int, string) {
		t.Helper()
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, prefix+" ") })
		if i < 0 {
			t.Fatalf("nobody said %s in\n%s", prefix, strings.Join(lines, "\n"))
		}
		return i, strings.TrimPrefix(lines[i], prefix+" ")
	}
	on := map[string][]string{
		"a": {"auto-converge", "events", "late-block-activate", "pause-before-switchover", "return-path"},
		"b": {"events", "late-block-activate", "pause-before-switchover", "postcopy-ram", "return-path"},
	}
	for host, want := range on {
		_, text := find(host + " migrate-set-capabilities")
		var set struct {
			Capabilities []struct {
				Name string `json:"capability"`
				On   bool   `json:"state"`
			}
		}
		if err := json.Unmarshal([]byte(text), &set); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range set.Capabilities {
			if c.On {
				got = append(got, c.Name)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) || len(set.Capabilities) < 20 {
			t.Errorf("%s turns on %v of %d, want %v of all", host, got, len(set.Capabilities), want)
		}
		if _, params := find(host + " migrate-set-parameters"); !strings.Contains(params, `"tls-creds":"move-`) {
			t.Errorf("%s: no TLS in %s", host, params)
		}
	}
	goes, _ := find("a migrate-continue")
	runs, _ := find("b cont")
	if goes > runs {
		t.Errorf("the destination was let run before the source had gone on:\n%s", strings.Join(lines, "\n"))
	}
}

// TestCutPostCopy: the link is cut while memory is on both sides, and the rest comes over another.
func TestCutPostCopy(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	arrival := w.prepare()
	relay, err := lab.NewRelay(strings.TrimPrefix(arrival.Address, "tcp:"))
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	arrival.Address = relay.Address()
	slow := hypervisor.Limits{Bandwidth: 128 << 10, Rest: 256 << 10, StopNow: true} // or the first pass may be all
	x, err := w.a.Perform(w.ctx, w.move, arrival, hypervisor.Options{Limits: slow, PostCopy: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(x.Switchover(w.ctx), x.PostCopy(w.ctx), w.b.Finish(w.ctx, w.move, true)); err != nil {
		t.Fatal(err)
	}
	if p, err := x.Progress(w.ctx); err != nil || p.Phase != "post-copy" {
		t.Fatalf("%+v, %v: too late for a cut", p, err)
	}
	relay.CutAt(0)
	for p := (hypervisor.Progress{}); p.Problem == ""; {
		if p, err = x.Progress(w.ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Limit(w.ctx, hypervisor.Limits{StopNow: true}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(x.Complete(w.ctx), w.a.Confirm(w.ctx, w.move, true)); err != nil {
		t.Fatal(err)
	}
	if s, err := w.b.Status(w.ctx, "vm1"); err != nil || s != hypervisor.Running {
		t.Errorf("the VM is %s (%v)", s, err)
	}
}
