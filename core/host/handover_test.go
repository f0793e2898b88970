package host

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// ask connects to a probe's listener and returns the pid that answers.
func ask(addr string) (string, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

// freeAddr finds a port that nobody listens on. Core must bind it itself.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// TestListenerIsKept connects all the time while the plugin is killed: a connection may
// break when the process that accepted it dies, but none is ever refused.
func TestListenerIsKept(t *testing.T) {
	for _, name := range []string{"one", "spare"} {
		t.Run(name, func(t *testing.T) {
			addr := freeAddr(t)
			h := newHost(t, Options{}, name)
			must(t, apply(t, h, map[string]probeConfig{name: {Listen: "tcp:" + addr}}))
			stop := make(chan struct{})
			var wg sync.WaitGroup
			var answers int
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					c, err := net.Dial("tcp", addr)
					if err != nil {
						t.Errorf("dial: %v", err)
						return
					}
					_ = c.SetDeadline(time.Now().Add(5 * time.Second))
					if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
						answers++
					}
					c.Close()
				}
			})
			for range 3 {
				s := until(t, h, name, func(s PluginStatus) bool {
					return s.State == "ready" && (name != "spare" || s.Spare)
				})
				must(t, h.Restart(timeout(t), name)) // forgives, so that no back-off slows the test
				s = until(t, h, name, func(n PluginStatus) bool {
					return n.State == "ready" && n.PID != s.PID && (name != "spare" || n.Spare)
				})
				must(t, syscall.Kill(s.PID, syscall.SIGKILL))
				pid, err := ask(addr)
				if err == nil && pid == fmt.Sprint(s.PID) {
					t.Errorf("a dead process answers")
				}
				until(t, h, name, func(n PluginStatus) bool { return n.State == "ready" && n.PID != s.PID })
			}
			close(stop)
			wg.Wait()
			if answers == 0 {
				t.Error("nobody ever answered")
			}
		})
	}
}

func TestMemoryAndDiskOutliveTheProcess(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(disk, make([]byte, 1<<20), 0o600))
	h := newHost(t, Options{}, "one")
	must(t, apply(t, h, map[string]probeConfig{"one": {Memory: 4096, Disk: "file:" + disk}}))
	if got := invoke(t, h, "one", "memory", "hello"); got != "fresh=true " {
		t.Errorf("memory at first: %q", got)
	}
	s := statusOf(t, h, "one")
	must(t, syscall.Kill(s.PID, syscall.SIGKILL))
	s = until(t, h, "one", func(n PluginStatus) bool { return n.State == "ready" && n.PID != s.PID })
	if got := invoke(t, h, "one", "memory", "x"); got != "fresh=false hello" {
		t.Errorf("memory after a crash: %q", got)
	}
	if s.Gauges == nil {
		s = until(t, h, "one", func(n PluginStatus) bool { return len(n.Gauges) > 0 })
	}
	if s.Gauges[0].GetValue() != 2 {
		t.Errorf("epoch %v, want 2", s.Gauges[0].GetValue())
	}
	// Core's lock on the disk holds against another process, also between two of the plugin.
	if _, err := openDiskFile(disk); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("second open: %v", err)
	}
	must(t, apply(t, h, nil))
	o, err := openDiskFile(disk)
	must(t, err)
	o.File.Close()
}

func TestStateSurvives(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	h := newHost(t, Options{StateDir: dir}, "one", "two")
	must(t, apply(t, h, map[string]probeConfig{"one": {State: true}, "two": {}}))
	invoke(t, h, "one", "put", "value")
	if got := invoke(t, h, "two", "get", ""); got != "" {
		t.Errorf("two reads one's key: %q", got)
	}
	// Its own directory is writable, and nothing else is.
	if _, err := h.Invoke(timeout(t), "one", "file", []byte(outside), "test"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("write outside: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "plugins", "one", "mine")); err != nil {
		t.Errorf("write inside: %v", err)
	}
	must(t, h.Shutdown(timeout(t)))

	h = newHost(t, Options{StateDir: dir}, "two", "one")
	must(t, apply(t, h, map[string]probeConfig{"one": {State: true}}))
	if got := invoke(t, h, "one", "get", ""); got != "value" {
		t.Errorf("after a restart of core: %q", got)
	}
	s := until(t, h, "one", func(n PluginStatus) bool { return len(n.Gauges) > 0 })
	if e := s.Gauges[0].GetValue(); e <= 1 {
		t.Errorf("epoch %v does not grow over a restart of core", e)
	}
}

func TestClaim(t *testing.T) {
	addr := freeAddr(t)
	h := newHost(t, Options{}, "one", "two")
	must(t, apply(t, h, map[string]probeConfig{"one": {}, "two": {}}))
	if got := invoke(t, h, "one", "claim", "tcp:"+addr); got != `"tcp:`+addr+`"` {
		t.Errorf("claim: %s", got)
	}
	if _, err := h.Invoke(timeout(t), "two", "claim", []byte("tcp:"+addr), "test"); err == nil || !strings.Contains(err.Error(), "wanted by one and by two") {
		t.Errorf("claim of the same: %v", err)
	}
	// What a process claimed goes with it.
	must(t, h.Restart(timeout(t), "one"))
	if got := invoke(t, h, "two", "claim", "tcp:"+addr); got != `"tcp:`+addr+`"` {
		t.Errorf("claim after release: %s", got)
	}
}

func TestOwnNamespace(t *testing.T) {
	h := newHost(t, Options{}, "netns")
	must(t, apply(t, h, map[string]probeConfig{"netns": {}}))
	if got := invoke(t, h, "netns", "links", ""); got != `["lo"]` {
		t.Fatalf("links: %s", got)
	}
	ns, err := h.units["netns"].namespace()
	must(t, err)
	other, err := newNetNS()
	must(t, err)
	defer other.Close()
	// A link moves in, and is still there for the next process.
	must(t, inNetNS(other, func() error {
		if err := addLink("nic0"); err != nil {
			return err
		}
		return MoveLink("nic0", int(ns.Fd()))
	}))
	if got := invoke(t, h, "netns", "links", ""); got != `["lo","nic0"]` {
		t.Errorf("links after the move: %s", got)
	}
	pid := statusOf(t, h, "netns").PID
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	until(t, h, "netns", func(n PluginStatus) bool { return n.State == "ready" && n.PID != pid })
	if got := invoke(t, h, "netns", "links", ""); got != `["lo","nic0"]` {
		t.Errorf("links after a crash: %s", got)
	}
}

func TestConfined(t *testing.T) {
	h := newHost(t, Options{}, "one")
	apply1 := func(caps []string) string {
		s := section(probeConfig{})
		s.Grant = Grant{Capabilities: caps, Memory: 256 << 20}
		must(t, h.Apply(timeout(t), map[string]Section{"one": s}))
		return invoke(t, h, "one", "status", "")
	}
	text := apply1(nil)
	for _, want := range []string{
		"CapEff:\t0000000000001000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n",
		fmt.Sprintf("Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", firstUID),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if _, err := h.Invoke(timeout(t), "one", "mount", nil, "test"); err == nil || !strings.Contains(err.Error(), "operation not permitted") {
		t.Errorf("mount: %v", err)
	}
	if text := apply1([]string{}); !strings.Contains(text, "CapEff:\t0000000000000000\n") {
		t.Errorf("nothing granted, but\n%s", text)
	}
}

// TestStranger tries the plugin's socket without a certificate, and with the wrong one.
func TestStranger(t *testing.T) {
	h := newHost(t, Options{}, "one", "two")
	must(t, apply(t, h, map[string]probeConfig{"one": {}, "two": {}}))
	v, _ := h.units["one"].look()
	addr := v.process.client.ReattachConfig().Addr
	var boot wire.Bootstrap
	must(t, h.ca.bootstrap("two", &boot))
	two, err := boot.ServerTLS()
	must(t, err)
	for name, certs := range map[string][]tls.Certificate{"none": nil, "another plugin's": two.Certificates, "core's": {h.ca.client}} {
		cfg := h.ca.clientTLS("one")
		cfg.Certificates = certs
		cfg.NextProtos = []string{"h2"}
		d := tls.Dialer{Config: cfg}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		c, err := d.DialContext(ctx, "unix", addr.String())
		if err == nil { // in TLS 1.3 the client hears of it at the first read
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		cancel()
		if refused := err != nil; refused != (name != "core's") {
			t.Errorf("%s certificate: %v", name, err)
		}
	}
}

func TestBigLogDoesNotBlock(t *testing.T) {
	h := newHost(t, Options{}, "one")
	must(t, apply(t, h, map[string]probeConfig{"one": {}}))
	long := strings.Repeat("x", 3*maxLine)
	invoke(t, h, "one", "log", long)
	for i := range ringLines + 10 {
		invoke(t, h, "one", "log", fmt.Sprint("line ", i))
	}
	last := fmt.Sprint("line ", ringLines+9)
	ctx := timeout(t)
	for {
		lines, err := h.Logs("one", 0)
		must(t, err)
		if n := len(lines); n > 0 && lines[n-1].Text == last {
			if n != ringLines {
				t.Errorf("%d lines are kept", n)
			}
			break
		}
		if ctx.Err() != nil {
			t.Fatal("the last line never came")
		}
	}
	if lines, _ := h.Logs("one", 2); len(lines) != 2 || lines[1].Text != last {
		t.Errorf("last two: %v", lines)
	}
}

// BenchmarkRestart is kill -9 to a call served, with and without a spare. The address is
// asked all the time, so it is what a client sees.
func BenchmarkRestart(b *testing.B) {
	for _, name := range []string{"cold", "spare"} {
		b.Run(name, func(b *testing.B) {
			addr := freeAddr(b)
			h := newHost(b, Options{}, name)
			must(b, apply(b, h, map[string]probeConfig{name: {Listen: "tcp:" + addr}}))
			for b.Loop() {
				b.StopTimer()
				must(b, h.Restart(timeout(b), name)) // forgives the crash before
				s := until(b, h, name, func(s PluginStatus) bool {
					return s.State == "ready" && (name == "cold" || s.Spare)
				})
				b.StartTimer()
				must(b, syscall.Kill(s.PID, syscall.SIGKILL))
				for {
					if pid, err := ask(addr); err == nil && pid != fmt.Sprint(s.PID) {
						break
					}
				}
			}
		})
	}
}

// BenchmarkStart is from Apply to ready.
func BenchmarkStart(b *testing.B) {
	h := newHost(b, Options{NoSpare: true}, "one")
	for b.Loop() {
		must(b, apply(b, h, map[string]probeConfig{"one": {}}))
		b.StopTimer()
		must(b, apply(b, h, nil))
		b.StartTimer()
	}
}
