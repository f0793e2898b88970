package vni

import (
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
