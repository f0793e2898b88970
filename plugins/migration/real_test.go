package migration

import (
	"fmt"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/qemu/lab"
)

// TestRealGuest moves a guest that runs between two hosts with real QEMUs, from the credentials on: there with one more
// processor, and back.
func TestRealGuest(t *testing.T) {
	l := lab.New(t)
	b := &box{dir: t.TempDir(), values: map[string][]byte{}}
	section := func(a, b string) string {
		return fmt.Sprintf(`{"hosts": [{"name": "rack1", "vmhost": "%s"}, {"name": "rack2", "vmhost": "%s"}]}`, a, b)
	}
	s := startFeature(t, New().(*Feature), section("127.0.0.1:1", "127.0.0.1:2"), &plugin.Session{
		Epoch: 1, Host: b, Handles: map[string]plugin.Handle{wantState: {ID: b.dir}},
	})
	var hosts []*lab.Host
	for _, name := range []string{"rack1", "rack2"} {
		identity := invoke[api.EnrollReply](s, api.MethodEnroll, api.HostRequest{Name: name}).Bundle
		h, err := l.Host(t.Context(), name, lab.HostOptions{Identity: []byte(identity)})
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	if err := s.configure(section(hosts[0].Address, hosts[1].Address)); err != nil {
		t.Fatal(err)
	}
	g, err := l.Guest("web1")
	if err != nil {
		t.Fatal(err)
	}
	if err := hosts[0].Restore(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	s.until("web1 seen on rack1", func(e plugin.Event) bool {
		return cell(e, "vms", "web1", "HOST") == "rack1" && cell(e, "hosts", "rack2", "STATE") == "up"
	})
	if err := g.Memory(t.Context(), 16, 4<<20); err != nil {
		t.Fatal(err)
	}
	h := &house{started: s}
	for i, req := range []api.MoveRequest{{VM: "web1", To: "rack2", Change: vcpus(2)}, {VM: "web1", To: "rack1"}} {
		reply := h.apply(req)
		if len(reply.Moves) != 1 {
			t.Fatalf("move %d is refused: %+v", i, reply)
		}
		began := time.Now()
		m := h.ended(t, reply.Moves[0].ID)
		gap, lost := g.Beats.Gap(began, time.Now())
		t.Logf("move %d: %s in %v, %d bytes sent, gap %v as the manager saw it, %v as the guest's peers did, %d beats lost: %s",
			i, m.State, m.Ended.Sub(m.Began).Round(time.Millisecond), m.Sent, m.Gap, gap, lost, m.Problem)
		if m.State != "moved" || m.Problem != "" {
			t.Fatalf("move %d: %+v", i, m)
		}
	}
	if _, err := g.VerifyMemory(t.Context()); err != nil {
		t.Error(err)
	}
	if err := g.Runners.Err(); err != nil {
		t.Error(err)
	}
}
