package group

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/group/api"
)

func started(t *testing.T, state StateStore) *Part {
	t.Helper()
	p := New(Options{State: state})
	if err := p.Start(t.Context(), Desired{Lease: time.Second}); err != nil {
		t.Fatal(err)
	}
	return p
}

func invoke(p *Part, method, request string) (string, error) {
	out, err := p.Invoke(context.Background(), method, []byte(request))
	return string(out), err
}

// TestPartMoved: what the VNIs' control plane tells reaches members that are there, and those that come later.
func TestPartMoved(t *testing.T) {
	p := started(t, &memory{m: map[string][]byte{}})
	must := func(method, request string) {
		t.Helper()
		if _, err := invoke(p, method, request); err != nil {
			t.Fatal(err)
		}
	}
	state := func(member string) (string, string) {
		t.Helper()
		out, err := invoke(p, api.MethodShow, `{"name": "web"}`)
		var g api.Group
		if err != nil || json.Unmarshal([]byte(out), &g) != nil {
			t.Fatal(out, err)
		}
		i := slices.IndexFunc(g.Members, func(m api.Member) bool { return m.Name == member })
		return g.Members[i].State, g.Members[i].Host.String()
	}
	to := Location{Underlay: netip.MustParseAddr("192.0.2.9"), MAC: [6]byte{2}, Epoch: 4}
	if v, err := p.Moved(t.Context(), 7, to); v != (Version{}) || err != nil {
		t.Errorf("a VNI of no group: %v, %v", v, err)
	}
	must(api.MethodCreate, `{"name": "web", "addresses": ["10.9.0.1"]}`)
	must(api.MethodAdd, `{"group": "web", "member": "a", "vni": 7}`)
	must(api.MethodAdd, `{"group": "web", "member": "b", "vni": 8}`)
	if s, at := state("a"); s != "serving" || at != "192.0.2.9" {
		t.Errorf("member of an attached VNI is %s at %s", s, at)
	}
	if s, _ := state("b"); s != "down" {
		t.Errorf("member of a VNI that is attached nowhere is %s", s)
	}
	for _, step := range []struct {
		do   func() (Version, error)
		want string
	}{
		{func() (Version, error) { return p.Moved(t.Context(), 8, to) }, "serving"},
		{func() (Version, error) { return p.SetDown(t.Context(), 8, true) }, "down"},
		{func() (Version, error) { return p.SetDown(t.Context(), 8, false) }, "serving"},
	} {
		if v, err := step.do(); err != nil || v == (Version{}) {
			t.Fatal(v, err)
		}
		if s, _ := state("b"); s != step.want {
			t.Errorf("member is %s, want %s", s, step.want)
		}
	}
	if v, err := p.Moved(t.Context(), 8, to); v != (Version{}) || err != nil {
		t.Errorf("moved to where it is: %v, %v", v, err)
	}
}

func TestPartRefuses(t *testing.T) {
	stopped := New(Options{State: &memory{m: map[string][]byte{}}})
	if _, err := invoke(stopped, api.MethodList, "{}"); err == nil || !strings.Contains(err.Error(), "groups: {}") {
		t.Errorf("a part that is not configured: %v", err)
	}
	if _, err := stopped.Moved(t.Context(), 1, Location{}); err != nil {
		t.Errorf("a VNI moves and nobody wants groups: %v", err)
	}
	state := &memory{m: map[string][]byte{}}
	p := started(t, state)
	for _, c := range []struct{ method, request, want string }{
		{"group.nonsense", "{}", "unknown method"},
		{api.MethodCreate, "{", "read request"},
		{api.MethodCreate, `{"name": "web", "addresses": ["10.9.0.1"], "policy": "ajar"}`, "neither closed nor open"},
		{api.MethodShow, `{"name": "web"}`, "not found"},
		{api.MethodAdd, `{"group": "web", "member": "a", "vni": 1, "mac": "02:00:00:00:00:01"}`, "without host"},
		{api.MethodAdd, `{"group": "web", "member": "a", "vni": 1, "host": "192.0.2.1", "mac": "02-zz"}`, "not the address of an Ethernet interface"},
	} {
		if _, err := invoke(p, c.method, c.request); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q", c.method, c.request, err, c.want)
		}
	}
	state.fail = errors.New("disk full")
	if _, err := invoke(p, api.MethodCreate, `{"name": "web", "addresses": ["10.9.0.1"]}`); err == nil {
		t.Error("a change that could not be kept was made")
	}
	if out, err := invoke(p, api.MethodList, "{}"); err != nil || strings.Contains(out, "web") {
		t.Errorf("a change that could not be kept is shown: %s, %v", out, err)
	}
	// A record of a later release is not guessed at.
	state.m[keyHead] = []byte(`{"format": 2}`)
	if err := New(Options{State: state}).Start(t.Context(), Desired{Lease: time.Second}); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("a later format: %v", err)
	}
}

func TestParse(t *testing.T) {
	var v plugin.Validation
	if d := Parse("groups", Config{}, &v); d.Lease != DefaultLease || v.Failed() {
		t.Errorf("the empty section: %+v, %v", d, v.Err())
	}
}

// TestShownIsBounded: what is sent to core every two seconds is bounded; ratchetctl asks for all of it.
func TestShownIsBounded(t *testing.T) {
	p := started(t, &memory{m: map[string][]byte{}})
	if _, err := invoke(p, api.MethodCreate, `{"name": "g", "addresses": ["10.9.0.1"]}`); err != nil {
		t.Fatal(err)
	}
	for n := range MaxGroups {
		g := web(MaxMembers)
		g.ID, g.Name = uint32(n+1), fmt.Sprintf("g%d", n)
		p.store.groups[g.ID] = g
		p.clients.Applied(fmt.Sprintf("h%d", n), Version{})
	}
	for _, table := range p.Tables() {
		if len(table.Rows) != maxShown {
			t.Errorf("table %s has %d rows, want %d", table.Name, len(table.Rows), maxShown)
		}
	}
	var clients api.ClientsReply
	if out, err := invoke(p, api.MethodClients, "{}"); err != nil || json.Unmarshal([]byte(out), &clients) != nil || len(clients.Clients) != MaxGroups {
		t.Errorf("%d clients are listed: %v", len(clients.Clients), err)
	}
}
