package vni

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
)

// A container that starts anew has no port at first: its old one went with the old namespace, and when the agent heard of
// that there was no new one. It is plugged in when there is; one whose VNI is not this host's any more is not.
func TestMissingPortIsPluggedIn(t *testing.T) {
	host, first, second := nettest.New(t), nettest.New(t), nettest.New(t)
	netns := filepath.Join(t.TempDir(), "web")
	p := PortConfig{VNI: theVNI, Instance: "ct", Kind: kindVeth, Device: "v71", Netns: netns}
	a := &Agent{log: slog.New(slog.NewTextHandler(t.Output(), nil)), ports: map[portKey]*portState{p.key(): {PortConfig: p}}}
	entry := failover.Entry{Interface: theVNI, Instance: "ct", MAC: vniMAC}
	there := func() (is bool) {
		host.Run(func() {
			_, err := indexOf("v71")
			is = err == nil
		})
		return is
	}
	start := func(container *nettest.Namespace) {
		_ = os.Remove(netns)
		if err := os.Symlink(container.Path(), netns); err != nil {
			t.Fatal(err)
		}
	}
	start(first)
	host.Run(func() { a.follow(t.Context(), &errgroup.Group{}, entry) })
	if !there() {
		t.Fatal("not plugged in when the agent heard of the VNI")
	}

	first.IP("link delete eth0")
	if err := os.Remove(netns); err != nil {
		t.Fatal(err)
	}
	host.Run(func() { a.follow(t.Context(), &errgroup.Group{}, entry); a.plugMissing() })
	if there() {
		t.Fatal("plugged in without a namespace")
	}
	start(second)
	host.Run(a.plugMissing)
	if !there() {
		t.Error("not plugged in after the container has started anew")
	}

	second.IP("link delete eth0")
	if err := a.learn(t.Context(), &errgroup.Group{}, nil); err != nil {
		t.Fatal(err)
	}
	host.Run(a.plugMissing)
	if there() {
		t.Error("plugged in for a VNI that is not this host's any more")
	}
}

// BenchmarkPlugMissing looks at the ports of 1,000 containers that are stopped, on a host with 200 links. Beats wait meanwhile: 2 ms;
// when all links were listed for each, 5.8 s.
func BenchmarkPlugMissing(b *testing.B) {
	host := nettest.New(b)
	var links []string
	for i := range 100 {
		links = append(links, fmt.Sprintf("link add a%d type veth peer name b%[1]d", i))
	}
	host.IP(links...)
	a := &Agent{log: slog.New(slog.DiscardHandler), ports: map[portKey]*portState{}}
	for i := range 1000 {
		p := PortConfig{VNI: i + 1, Instance: "ct", Kind: kindVeth, Device: fmt.Sprintf("v%d", i), Netns: filepath.Join(b.TempDir(), "none")}
		a.ports[p.key()] = &portState{PortConfig: p, entry: failover.Entry{Interface: uint32(i + 1)}}
	}
	host.Run(func() {
		for b.Loop() {
			a.plugMissing()
		}
	})
}
