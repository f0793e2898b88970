package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// keeper answers every line of a connection with its pid and how many lines were answered before, by whatever process,
// and hands its connections on.
type keeper struct {
	probe
	mu    sync.Mutex
	conns []net.Conn
	lines int
}

var _ plugin.Handover = (*keeper)(nil)

func (k *keeper) Start(ctx context.Context, s *plugin.Session) error {
	if err := k.probe.Start(ctx, &plugin.Session{Epoch: s.Epoch, Handles: map[string]plugin.Handle{"memory": s.Handles["memory"]}, Report: s.Report, Log: s.Log}); err != nil {
		return err
	}
	l, err := net.FileListener(s.Handles["listen"].File)
	s.Handles["listen"].File.Close()
	if err != nil {
		return err
	}
	k.l = l
	for _, c := range k.conns {
		k.wg.Go(func() { k.serve(c) })
	}
	k.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			k.mu.Lock()
			k.conns = append(k.conns, c)
			k.mu.Unlock()
			k.wg.Go(func() { k.serve(c) })
		}
	})
	return nil
}

func (k *keeper) serve(c net.Conn) {
	for r := bufio.NewReader(c); ; {
		if _, err := r.ReadString('\n'); err != nil {
			return
		}
		k.mu.Lock()
		fmt.Fprintln(c, os.Getpid(), k.lines)
		k.lines++
		k.mu.Unlock()
	}
}

func (k *keeper) Export(context.Context) (plugin.Luggage, error) {
	if k.cfg.FailAt == "export" {
		return plugin.Luggage{}, errors.New("told to fail")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	l := plugin.Luggage{State: fmt.Append(nil, k.lines), Sockets: map[string]*os.File{}}
	for i, c := range k.conns {
		f, err := c.(*net.TCPConn).File()
		if err != nil {
			return l, err
		}
		c.Close()
		l.Sockets[strconv.Itoa(i)] = f
	}
	return l, nil
}

func (k *keeper) Import(_ context.Context, l plugin.Luggage) error {
	k.lines, _ = strconv.Atoi(string(l.State))
	for _, f := range l.Sockets {
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			return err
		}
		k.conns = append(k.conns, c)
	}
	return nil
}

func (k *keeper) Stop(context.Context) error {
	k.mu.Lock()
	for _, c := range k.conns {
		c.Close()
	}
	k.mu.Unlock()
	return k.probe.Stop(context.Background())
}

// say sends a line and returns who answers and what was answered before.
func say(t *testing.T, c net.Conn) (pid string, lines int, err error) {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	if _, err := fmt.Fprintln(c, "hello"); err != nil {
		return "", 0, err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(answer, &pid, &lines)
	}
	return pid, lines, err
}

// TestConnectionsAreHandedOn: a planned restart keeps connections and what the process knew; a crash breaks them at once.
func TestConnectionsAreHandedOn(t *testing.T) {
	addr := freeAddr(t)
	h := newHost(t, Options{}, "keeper")
	must(t, apply(t, h, map[string]probeConfig{"keeper": {Listen: "tcp:" + addr, Memory: 4096}}))
	var conns []net.Conn
	for i := range 3 {
		c, err := net.Dial("tcp", addr)
		must(t, err)
		defer c.Close()
		if _, n, err := say(t, c); err != nil || n != i {
			t.Fatalf("first answer: %d %v", n, err)
		}
		conns = append(conns, c)
	}
	for round := range 2 {
		before := statusOf(t, h, "keeper")
		must(t, h.Restart(timeout(t), "keeper"))
		after := statusOf(t, h, "keeper")
		for i, c := range conns {
			pid, n, err := say(t, c)
			if err != nil || pid == fmt.Sprint(before.PID) || pid != fmt.Sprint(after.PID) || n != 3*(round+1)+i {
				t.Fatalf("round %d, connection %d: process %s of %d and %d, answer %d, %v", round, i, pid, before.PID, after.PID, n, err)
			}
		}
	}
	must(t, syscall.Kill(statusOf(t, h, "keeper").PID, syscall.SIGKILL))
	if _, _, err := say(t, conns[0]); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("after a crash: %v", err)
	}
}

// TestHandOverFails: a process that hands nothing over is replaced all the same, and its clients connect again.
func TestHandOverFails(t *testing.T) {
	addr := freeAddr(t)
	h := newHost(t, Options{}, "keeper")
	must(t, apply(t, h, map[string]probeConfig{"keeper": {Listen: "tcp:" + addr, FailAt: "export"}}))
	c, err := net.Dial("tcp", addr)
	must(t, err)
	defer c.Close()
	if _, _, err := say(t, c); err != nil {
		t.Fatal(err)
	}
	must(t, h.Restart(timeout(t), "keeper"))
	if _, _, err := say(t, c); err == nil {
		t.Error("the connection lives on")
	}
	c, err = net.Dial("tcp", addr)
	must(t, err)
	defer c.Close()
	if _, n, err := say(t, c); err != nil || n != 0 {
		t.Errorf("after the restart: %d, %v", n, err)
	}
}

// TestNobodyTakesOver: when no process follows, the clients of the last one are told, and do not wait for ever.
func TestNobodyTakesOver(t *testing.T) {
	addr := freeAddr(t)
	var hardware pullable
	h := newHost(t, Options{Resources: &hardware}, "keeper")
	must(t, apply(t, h, map[string]probeConfig{"keeper": {Listen: "tcp:" + addr, Disk: "serial:x"}}))
	c, err := net.Dial("tcp", addr)
	must(t, err)
	defer c.Close()
	if _, _, err := say(t, c); err != nil {
		t.Fatal(err)
	}
	hardware.pulled.Store(true)
	if err := h.Restart(timeout(t), "keeper"); err == nil {
		t.Error("it was started without its disk")
	}
	if _, _, err := say(t, c); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the connection: %v", err)
	}
}

// TestMemoryIsPrecious: memory of another size is asked for while the last process has not ended in order.
func TestMemoryIsPrecious(t *testing.T) {
	h := newHost(t, Options{}, "one")
	must(t, apply(t, h, map[string]probeConfig{"one": {Memory: 4096}}))
	invoke(t, h, "one", "memory", "hello")
	pid := statusOf(t, h, "one").PID
	// As a crash in the middle of a change: the section is the new one when the process ends.
	h.units["one"].setConfig(config{section: section(probeConfig{Memory: 8192}), generation: 2})
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	until(t, h, "one", func(s PluginStatus) bool { return s.State == "ready" && s.PID != pid })
	if got := invoke(t, h, "one", "memory", "again"); got != "fresh=false hello" {
		t.Errorf("after a crash: %q", got)
	}
	must(t, h.Restart(timeout(t), "one"))
	if got := invoke(t, h, "one", "memory", "x"); got != "fresh=true " {
		t.Errorf("after a stop in order: %q", got)
	}
}

// TestFile: a file is opened by core, for a plugin that could not.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	must(t, os.WriteFile(key, []byte("secret"), 0o400))
	must(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	open := func(selector string) (Opened, error) {
		return Local{}.Open(t.Context(), Request{Want: &pluginpb.Want{Name: "f", Kind: pluginpb.Kind_FILE, Selector: selector}})
	}
	o, err := open("file:" + key)
	must(t, err)
	defer o.File.Close()
	p, err := io.ReadAll(o.File)
	if err != nil || string(p) != "secret" || o.Handle.GetSize() != 6 {
		t.Errorf("read %q, %v", p, err)
	}
	if _, err := o.File.Write([]byte("x")); err == nil {
		t.Error("it can be written")
	}
	for _, bad := range []string{"file:" + dir, "file:" + dir + "/fifo", "file:" + dir + "/none", key} {
		if _, err := open(bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
