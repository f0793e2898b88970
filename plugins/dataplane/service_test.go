package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/link"
)

// bed is a network namespace that ends with the test, entered by the test's own thread, with one veth pair:
// nic0 is the dataplane's NIC, far its other end.
type bed struct {
	t      *testing.T
	events chan plugin.Event
	f      *Feature
}

func newBed(t *testing.T) *bed {
	t.Helper()
	// The thread is not unlocked: it ends with the test's goroutine, and the namespace with it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace (needs root): %v", err)
	}
	b := &bed{t: t, events: make(chan plugin.Event, 64), f: New()}
	b.ip("link", "add", "nic0", "address", "52:54:00:00:00:01", "type", "veth", "peer", "name", "far")
	b.ip("link", "set", "far", "up")
	return b
}

func (b *bed) ip(args ...string) string {
	b.t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (b *bed) configure(section string) error {
	return b.f.Configure(b.t.Context(), plugin.Section{JSON: []byte(section)})
}

func (b *bed) start(section string) {
	b.t.Helper()
	if err := b.configure(section); err != nil {
		b.t.Fatal(err)
	}
	err := b.f.Start(b.t.Context(), &plugin.Session{
		Handles: map[string]plugin.Handle{"links[0]": {Name: "links[0]", Kind: pluginpb.Kind_NIC, ID: "mac:52:54:00:00:00:01", Device: "nic0"}},
		Report: func(e plugin.Event) {
			select {
			case b.events <- e:
			default:
			}
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := b.f.Stop(ctx); err != nil {
			b.t.Error(err)
		}
	})
}

// until waits for an event after which the one link is as wanted.
func (b *bed) until(what string, ok func(api.Link) bool) api.Link {
	b.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		l := b.link()
		if ok(l) {
			return l
		}
		select {
		case <-b.events:
		case <-deadline:
			b.t.Fatalf("after 10 s still not %s: %+v", what, l)
		}
	}
}

func (b *bed) link() api.Link {
	b.t.Helper()
	out, err := b.f.Invoke(b.t.Context(), api.MethodLinks, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	var r api.LinksReply
	if err := json.Unmarshal(out, &r); err != nil {
		b.t.Fatal(err)
	}
	return r.Links[0]
}

const section = `{"links":[{"nic":"mac:52:54:00:00:00:01","name":"wan0","mtu":1400,"addresses":["192.0.2.1/24","2001:db8::1/64"],
	"routes":[{"to":"198.51.100.0/24","via":"192.0.2.2"},{"to":"2001:db8:1::/48","via":"2001:db8::2","metric":7}]}]}`

func TestLinkIsBroughtUpAsConfigured(t *testing.T) {
	b := newBed(t)
	b.start(section)
	l := b.link()
	if l.Problem != "" || l.Name != "wan0" || l.MTU != 1400 || !l.Up {
		t.Errorf("link %+v", l)
	}
	// iproute2 as a second opinion on what the kernel was told.
	for args, want := range map[string]string{
		"-4 addr show wan0":          "inet 192.0.2.1/24 brd 192.0.2.255 scope global wan0",
		"-6 addr show wan0":          "inet6 2001:db8::1/64 scope global nodad",
		"-4 route show proto static": "198.51.100.0/24 via 192.0.2.2 dev wan0",
		"-6 route show proto static": "2001:db8:1::/48 via 2001:db8::2 dev wan0 metric 7",
		"-o link show wan0":          "mtu 1400",
	} {
		if got := b.ip(strings.Fields(args)...); !strings.Contains(got, want) {
			t.Errorf("ip %s: %q is not in\n%s", args, want, got)
		}
	}
}

func TestForeignChangesAreUndone(t *testing.T) {
	b := newBed(t)
	b.start(section)
	b.ip("addr", "del", "192.0.2.1/24", "dev", "wan0")
	b.ip("addr", "add", "203.0.113.9/24", "dev", "wan0")
	b.ip("link", "set", "wan0", "mtu", "1300")
	b.until("repaired", func(l api.Link) bool {
		return l.MTU == 1400 && strings.Join(l.Addresses, " ") == "192.0.2.1/24 2001:db8::1/64" && len(l.Routes) == 2
	})
}

func TestCarrierIsFollowed(t *testing.T) {
	b := newBed(t)
	b.start(section)
	b.until("with carrier", func(l api.Link) bool { return l.Carrier })
	b.ip("link", "set", "far", "down")
	if l := b.until("without carrier", func(l api.Link) bool { return !l.Carrier }); l.Problem != "" {
		t.Errorf("a pulled cable is a problem of ours: %s", l.Problem)
	}
}

func TestNICThatLeavesAndReturns(t *testing.T) {
	b := newBed(t)
	b.start(section)
	b.ip("link", "del", "far")
	if l := b.until("missing", func(l api.Link) bool { return !l.Present }); !strings.Contains(l.Problem, "mac:52:54:00:00:00:01") {
		t.Errorf("the problem does not name the NIC: %q", l.Problem)
	}
	for e := range b.events {
		if e.Health == pluginpb.Event_DEGRADED && strings.Contains(e.Message, "mac:52:54:00:00:00:01") {
			break
		}
	}
	b.ip("link", "add", "other", "address", "52:54:00:00:00:01", "type", "veth", "peer", "name", "far")
	b.until("back", func(l api.Link) bool { return l.Present && l.Name == "wan0" && l.Problem == "" })
}

func TestReconfigureTouchesOnlyWhatChanged(t *testing.T) {
	b := newBed(t)
	b.start(section)
	before := b.ip("-o", "-6", "addr", "show", "wan0")
	if err := b.configure(strings.Replace(section, "192.0.2.1/24", "192.0.2.3/24", 1)); err != nil {
		t.Fatal(err)
	}
	b.until("changed", func(l api.Link) bool {
		return len(l.Addresses) == 2 && l.Addresses[0] == "192.0.2.3/24" && len(l.Routes) == 2
	})
	if after := b.ip("-o", "-6", "addr", "show", "wan0"); after != before {
		t.Errorf("IPv6 addresses were touched:\n%s\n%s", before, after)
	}
	if err := b.configure(`{"links":[{"nic":"mac:52:54:00:00:00:02"}]}`); !errors.Is(err, plugin.ErrNeedsRestart) {
		t.Errorf("another NIC: %v, want ErrNeedsRestart", err)
	}
}

// counted is a kernel that counts what is done to it.
type counted struct {
	*link.Namespace
	done []string
}

func (c *counted) Do(op link.Op) error {
	c.done = append(c.done, op.String())
	return c.Namespace.Do(op)
}

// TestSettledLinkIsLeftAlone: what is in the kernel as configured is recognised, whatever the kernel calls it.
func TestSettledLinkIsLeftAlone(t *testing.T) {
	newBed(t)
	d, v := parse(plugin.Section{JSON: []byte(`{"links":[{"nic":"mac:52:54:00:00:00:01","name":"wan0","mtu":9000,
		"addresses":["192.0.2.1/24","2001:db8::1/64"],"routes":[
		{"to":"default","via":"192.0.2.254"},{"to":"default","via":"192.0.2.253","metric":1024},{"to":"198.51.100.0/24","metric":5},
		{"to":"default","via":"2001:db8::2"},{"to":"2001:db8:1::/48","via":"2001:db8::2","metric":1024},{"to":"2001:db8:2::/48","metric":7}]}]}`)})
	if err := v.Err(); err != nil {
		t.Fatal(err)
	}
	ns, err := link.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	kernel := &counted{Namespace: ns}
	k := keeper{kernel: kernel, links: []kept{{configured: d.links[0], handle: plugin.Handle{ID: "mac:52:54:00:00:00:01"}}}}
	if !k.step() {
		t.Fatalf("not as configured: %v", k.links[0].err)
	}
	kernel.done = nil
	if k.step(); len(kernel.done) > 0 {
		t.Errorf("a link that is as configured was changed: %v", kernel.done)
	}
}

// TestNamesAreExchanged: two links get each other's names, as when an operator finds that the cables are crossed.
func TestNamesAreExchanged(t *testing.T) {
	b := newBed(t)
	b.ip("link", "add", "nic1", "address", "52:54:00:00:00:02", "type", "veth", "peer", "name", "far1")
	ns, err := link.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	k := keeper{kernel: ns, links: []kept{
		{handle: plugin.Handle{ID: "mac:52:54:00:00:00:01", Device: "nic0"}}, {handle: plugin.Handle{ID: "pci:0000:00:05.0", Device: "nic1"}},
	}}
	for _, names := range [][]string{{"wan0", "lan0"}, {"lan0", "wan0"}, {"lan0", "wan1"}} {
		for i, name := range names {
			k.links[i].desired.Name = name
		}
		if !k.step() {
			t.Fatalf("%v: %v, %v", names, k.links[0].err, k.links[1].err)
		}
		for i, l := range k.links {
			if l.observed.Name != names[i] || !l.observed.Up || l.observed.MAC != fmt.Sprintf("52:54:00:00:00:%02x", i+1) {
				t.Errorf("%s is %s at %s, up: %t, want %s", l.handle.ID, l.observed.Name, l.observed.MAC, l.observed.Up, names[i])
			}
		}
	}
}
