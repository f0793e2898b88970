package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
)

func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"least", "boxes: [{address: '192.0.2.1:7400', identity: /etc/ratchet/box.pem}]\n", nil},
		{"no box", "pins: /sys/fs/bpf/x\n", []string{"boxes", "0 boxes"}},
		{"misspelt", "boxes: [{adddress: '192.0.2.1:7400', identity: /a}]\n", []string{":1:10: ", "adddress", "address"}},
		{"address", "boxes: [{address: 192.0.2.1, identity: /a}]\n", []string{"is not ADDRESS:PORT"}},
		{"twice", "boxes:\n- {address: 'a:1', identity: /a}\n- {address: 'a:1', identity: /b}\n", []string{":3:", "already boxes[0]"}},
		{"relative", "pins: x\nboxes: [{address: 'a:1', identity: a.pem}]\n", []string{"pins: ", "absolute", "identity"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agent.yaml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, found, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if found.Failed() != (c.want != nil) {
				t.Fatalf("found: %s", found.Detail())
			}
			for _, w := range c.want {
				if !strings.Contains(found.Detail(), w) {
					t.Errorf("%q is missing in:\n%s", w, found.Detail())
				}
			}
		})
	}
}

func TestRunJoinsEveryBox(t *testing.T) {
	c := &Config{Pins: t.TempDir()}
	joined := make(chan string, 8)
	for i := range 2 {
		b := controltest.Server(t, controltest.Options{})
		b.Server().OnHost(func(host string, in bool) {
			if in {
				joined <- fmt.Sprintf("%s at box %d", host, i)
			}
		})
		b.Serve()
		path := filepath.Join(t.TempDir(), "box.pem")
		if err := os.WriteFile(path, b.File("web-1"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Boxes = append(c.Boxes, BoxConfig{Address: b.Address(), Identity: path})
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c, slog.New(slog.DiscardHandler)) }()
	seen := map[string]bool{}
	for len(seen) < 2 {
		select {
		case who := <-joined:
			seen[who] = true
		case <-time.After(20 * time.Second):
			t.Fatalf("joined: %v", seen)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
}

// What a former configuration has put onto links goes with the link from the list, and with the section from the file.
func TestDecapsulationGoes(t *testing.T) {
	host, peer := nettest.New(t), nettest.New(t)
	for _, name := range []string{"d0", "d1"} {
		nettest.Veth(t, nettest.End{On: host, Name: name}, nettest.End{On: peer, Name: name})
	}
	pins := t.TempDir()
	if err := unix.Mount("bpf", pins, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(pins, unix.MNT_DETACH) })
	has := func(want string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; { // the kernel ends links in its own time
			got := ""
			for _, name := range []string{"d0", "d1"} {
				if strings.Contains(host.Exec("ip", "link", "show", name), "xdp") {
					got += name
				}
			}
			if got == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the program is on %q, want %q", got, want)
			}
		}
	}
	for _, links := range [][]string{{"d0", "d1"}, {"d1"}} {
		host.Run(func() {
			r := resources{log: slog.New(slog.DiscardHandler), pins: filepath.Join(pins, "decapsulation")}
			if err := makePins(pins, r.pins); err != nil {
				t.Fatal(err)
			}
			d, err := newDecapsulation(r, &DecapConfig{Links: links}, false)
			if err != nil {
				t.Fatal(err)
			}
			d.close()
		})
		has(strings.Join(links, ""))
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := Run(ended, &Config{Pins: pins}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	has("")
}
