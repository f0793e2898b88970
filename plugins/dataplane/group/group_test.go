package group_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/group/api"
)

// TestHosts: three members, a client, real connections.
func TestHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.box(1, 2*time.Second)
	members := []*member{w.member(1), w.member(2), w.member(3)}
	c := w.client(100, b)
	b.create("web", address, address6)
	for _, m := range members {
		b.add("web", m)
	}
	b.settled()
	// The answer that confirms the first version may still be on its way.
	until(t, "connections pass", func() bool { _, err := c.ask(address); return err == nil })

	seen := map[string]int{}
	for range 60 {
		for _, a := range []string{address, address6} {
			name, err := c.ask(a)
			check(t, err)
			seen[name]++
		}
	}
	for _, m := range members {
		if seen[m.name] < 15 {
			t.Errorf("120 connections over 3 members: %v", seen)
		}
	}
	for _, n := range []int{100, 1402, 8000} { // the last in fragments
		for _, a := range []string{address, address6} {
			if _, err := c.datagram(a, n); err != nil {
				t.Errorf("datagram of %d bytes to %s: %v", n, a, err)
			}
		}
	}

	// A connection stays with its member while others come and go.
	conn, err := c.dial("tcp", address+":80")
	check(t, err)
	defer conn.Close()
	mine, err := say(conn, 1000)
	check(t, err)
	for _, m := range members {
		if m.name == mine {
			b.call(api.MethodDrain, api.DrainRequest{MemberRequest: api.MemberRequest{Group: "web", Member: m.name}}, nil)
			continue
		}
		b.call(api.MethodRemove, api.MemberRequest{Group: "web", Member: m.name}, nil)
		b.settled()
		b.add("web", m)
	}
	b.settled()
	if name, err := say(conn, 1000); name != mine {
		t.Errorf("the connection to %s went to %q: %v", mine, name, err)
	}
	for range 30 {
		if name, err := c.ask(address); err != nil || name == mine {
			t.Fatalf("a new connection went to %q, which drains: %v", name, err)
		}
	}

	// The plugin restarts: members, versions and flows are as they were.
	var before, after api.ListReply
	b.call(api.MethodList, struct{}{}, &before)
	b.restart()
	if name, err := say(conn, 1000); name != mine {
		t.Errorf("while the plugin starts the connection to %s went to %q: %v", mine, name, err)
	}
	b.call(api.MethodList, struct{}{}, &after)
	if before.Version != after.Version || len(after.Groups) != 1 || len(after.Groups[0].Members) != 3 {
		t.Errorf("before the restart %+v, after it %+v", before, after)
	}

	// So does the agent; its flows are pinned.
	c.stop()
	if name, err := say(conn, 1000); name != mine {
		t.Errorf("without agent the connection to %s went to %q: %v", mine, name, err)
	}
	c.start()
	b.settled()
	if name, err := say(conn, 1000); name != mine {
		t.Errorf("with a new agent the connection to %s went to %q: %v", mine, name, err)
	}

	// A group that is gone is routed no more.
	b.call(api.MethodDelete, api.Name{Name: "web"}, nil)
	b.settled()
	if _, err := c.ask(address); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("a deleted group answers: %v", err)
	}
}
