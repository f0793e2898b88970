package nettest

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestHostsTalkOverASwitch(t *testing.T) {
	sw, a, b := NewSwitch(t), New(t), New(t)
	sw.Plug(End{On: a, Name: "eth0", Addresses: []string{"10.9.0.1/24", "fd00::1/64"}})
	sw.Plug(End{On: b, Name: "eth0", MAC: "02:00:00:00:00:0b", MTU: 1400, Addresses: []string{"10.9.0.2/24", "fd00::2/64"}})
	b.NoOffload("eth0")
	if l := b.Link("eth0"); l.HardwareAddr.String() != "02:00:00:00:00:0b" || l.MTU != 1400 || l.Index != b.Index("eth0") {
		t.Errorf("link of b is %+v", l)
	}
	for _, address := range []string{"10.9.0.2:80", "[fd00::2]:80"} {
		l := b.Listen("tcp", address)
		go func() {
			c, err := l.Accept()
			if err == nil {
				_, _ = io.WriteString(c, "hello")
				c.Close()
			}
		}()
		got, err := io.ReadAll(a.Dial("tcp", address))
		if string(got) != "hello" || err != nil {
			t.Errorf("%s: %q, %v", address, got, err)
		}
	}
}

// A goroutine is back where it was after Run, whichever way f ends.
func TestRunComesBack(t *testing.T) {
	n := New(t)
	where := func() string {
		s, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		return s
	}
	home, there := where(), ""
	n.Run(func() { there = where() })
	func() {
		defer func() { _ = recover() }()
		n.Run(func() { panic("in the namespace") })
	}()
	other := New(t)
	n.Run(func() {
		other.Run(func() {})
		if where() != there {
			t.Error("a nested Run did not come back")
		}
	})
	if there == home || where() != home {
		t.Errorf("home %s, there %s, now %s", home, there, where())
	}
}

func TestGoEndsWithTheTest(t *testing.T) {
	ended := false
	t.Run("inner", func(t *testing.T) {
		n := New(t)
		n.Go(func(ctx context.Context) { <-ctx.Done(); ended = true })
		cmd := exec.Command("cat")
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		n.Start(cmd)
	})
	if !ended {
		t.Error("the goroutine outlived its test")
	}
}

func TestNamespacesAreApart(t *testing.T) {
	n := New(t)
	if out := n.Exec("ip", "-o", "link"); strings.Count(out, "\n") != 1 {
		t.Errorf("a new namespace has\n%s", out)
	}
	l := n.Listen("tcp", "127.0.0.1:0")
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		c.Close()
		t.Error("a listener of the namespace is reached from outside")
	}
}
