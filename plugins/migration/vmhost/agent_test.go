package vmhost

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// state is a store in memory.
type state map[string][]byte

func (m state) Get(_ context.Context, key string) ([]byte, error)     { return m[key], nil }
func (m state) Put(_ context.Context, key string, value []byte) error { m[key] = value; return nil }
func (m state) Delete(_ context.Context, key string) error            { delete(m, key); return nil }
func (m state) List(context.Context, string) ([]string, error)        { return nil, nil }

// conf is that of an agent in a short directory, with an identity and its authority.
func conf(t testing.TB) (Config, *pki.Authority) {
	t.Helper()
	dir, err := os.MkdirTemp("", "vh") //nolint:usetesting // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a, err := pki.Open(t.Context(), state{})
	if err != nil {
		t.Fatal(err)
	}
	file, err := a.Enroll(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Identity: filepath.Join(dir, "id.pem"), Dir: filepath.Join(dir, "d"), QEMU: "/bin/false", Accels: []string{"tcg"}}
	c.Move.Address = "127.0.0.1"
	c.Networks = []NetworkConfig{{Name: "lan", User: true}}
	c.Disks = []string{dir}
	if err := os.WriteFile(c.Identity, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return c, a
}

func agent(t testing.TB, c Config) *Host {
	t.Helper()
	h, err := New(c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func tiny(name string) model.Shape {
	return model.Shape{
		Version: 1, VM: name, Machine: "pc-i440fx-7.2", Accel: "tcg", CPU: model.CPU{Model: "qemu64"}, VCPUs: 1, MaxVCPUs: 2,
		Memory: model.Memory{Boot: 16376 << 10}, NICs: []model.NIC{{ID: "n0", Model: "e1000", MAC: "52:54:00:00:00:01", Network: "lan"}},
		Others: []model.Device{{ID: "s0", Args: "isa-serial,id=s0,chardev=serial0"}},
	}
}

// TestVMsOutliveTheAgent: the next agent finds a VM as the last one left it, and lets nobody else have the directory.
func TestVMsOutliveTheAgent(t *testing.T) {
	c, _ := conf(t)
	var err error
	if c.QEMU, err = exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Fatal(err)
	}
	h := agent(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := h.Start(ctx, tiny("web"), StartOptions{}); err != nil {
		t.Fatal(err)
	}
	m, err := h.machine("web")
	if err != nil {
		t.Fatal(err)
	}
	pid := m.proc.pid
	t.Cleanup(func() { // whatever fails below
		if p, _ := adopt(pidFile(h.vmDir("web"))); p != nil {
			_ = p.kill()
			p.close()
		}
		_ = m.cmd.Wait()
	})
	before, err := h.Shape(ctx, "web")
	if err != nil || before.NICs[0].Addr == "" || len(before.CPU.Features) == 0 {
		t.Fatalf("shape without what QEMU has chosen: %+v, %v", before, err)
	}
	if err := h.Start(ctx, tiny("web"), StartOptions{}); !errors.Is(err, client.ErrExists) {
		t.Errorf("a second VM of that name: %v", err)
	}
	if _, err := New(c, Options{}); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a second agent: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}

	// One that cannot be spoken to, or whose record is of a newer version, runs all the same: it must not be started again.
	monitor, kept := monitorSocket(h.vmDir("web")), recordFile(h.vmDir("web"))
	for what, file := range map[string]string{"monitor": monitor, "record": kept} {
		if err := os.Rename(file, file+".aside"); err != nil {
			t.Fatal(err)
		}
		if file == kept {
			if err := os.WriteFile(kept, []byte(`{"version": 99}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		h = agent(t, c)
		if list, err := h.List(ctx); err != nil || len(list) != 1 || list[0].Name != "web" {
			t.Errorf("adopted without its %s: %+v, %v", what, list, err)
		}
		if err := h.Start(ctx, tiny("web"), StartOptions{}); !errors.Is(err, client.ErrExists) {
			t.Errorf("a second VM of that name without its %s: %v", what, err)
		}
		if err := h.Settle("web", "m1"); file == kept && (err == nil || !strings.Contains(err.Error(), "use a newer ratchet")) {
			t.Errorf("a newer record is written to: %v", err)
		}
		if err := errors.Join(h.Close(), os.Rename(file+".aside", file)); err != nil {
			t.Fatal(err)
		}
	}

	h = agent(t, c)
	list, err := h.List(ctx)
	if err != nil || len(list) != 1 || list[0].State != hypervisor.Running {
		t.Fatalf("adopted: %+v, %v", list, err)
	}
	if n, err := h.Resident("web"); err != nil || n == 0 {
		t.Errorf("%d bytes resident, %v", n, err)
	}
	if m, err := h.machine("web"); err != nil || m.proc.pid != pid {
		t.Errorf("another process was adopted: %v", err)
	}
	if after, err := h.Shape(ctx, "web"); err != nil || after.Digest() != before.Digest() {
		t.Errorf("shape before %+v, after %+v (%v)", before, after, err)
	}
	if err := h.End(ctx, "web", "m1"); err == nil {
		t.Error("a VM that lives here was ended as the destination of a move")
	}
	if err := h.End(ctx, "web", ""); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(h.vmDir("web")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was not forgotten: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// TestStrangerProcess: a PID file that is not locked by its writer names nobody, whoever has the number now.
func TestStrangerProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	for _, text := range []string{"", "x", "0", "-1", "1", "4194304999"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := adopt(file); p != nil || err != nil {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	if err := os.WriteFile(file, []byte(strconv.Itoa(sleep.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := adopt(file); p != nil || err != nil {
		t.Errorf("a process that does not hold the lock: %+v, %v", p, err)
	}
}

// TestRefusedStarts: what this host does not let VMs have, and a QEMU that does not start, leave nothing behind.
func TestRefusedStarts(t *testing.T) {
	c, _ := conf(t)
	c.Limits = LimitConfig{VMs: 1, VCPUs: 2, Memory: 64 << 20}
	h := agent(t, c)
	defer h.Close()
	for name, tc := range map[string]struct {
		change func(s *model.Shape)
		want   string
	}{
		"alias":       {func(s *model.Shape) { s.Machine = "pc" }, "pc-i440fx-7.2"},
		"accelerator": {func(s *model.Shape) { s.Accel = "kvm" }, "not by kvm"},
		"network":     {func(s *model.Shape) { s.NICs[0].Network = "dmz" }, "no network"},
		"kernel":      {func(s *model.Shape) { s.Boot.Kernel = "/etc/passwd" }, "`images`"},
		"disk": {func(s *model.Shape) {
			s.Disks = []model.Disk{{ID: "d", Model: "ide-hd", Source: model.Source{Local: "/etc/d"}}}
		}, "`disks`"},
		"vCPUs":         {func(s *model.Shape) { s.VCPUs, s.MaxVCPUs = 3, 3 }, "2 of 2 are free"},
		"memory":        {func(s *model.Shape) { s.Memory.Boot = 65 << 20 }, "64 are free"},
		"QEMU's own no": {func(*model.Shape) {}, "QEMU did not start"},
	} {
		s := tiny("web")
		tc.change(&s)
		err := h.Start(t.Context(), s, StartOptions{})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if _, err := os.Stat(h.vmDir("web")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was left: %v", name, err)
		}
	}
	// A file that is there is somebody's.
	mine := filepath.Join(c.Disks[0], "mine")
	if err := os.WriteFile(mine, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := tiny("web")
	s.Disks = []model.Disk{{ID: "d", Model: "ide-hd", Size: 1 << 20, Source: model.Source{Local: mine}}}
	if err := h.Start(t.Context(), s, StartOptions{Move: "m1"}); err == nil || !strings.Contains(err.Error(), "overwritten") {
		t.Errorf("a destination over a file: %v", err)
	}
	if b, _ := os.ReadFile(mine); string(b) != "data" {
		t.Error("the file was touched")
	}
}

// TestEndOfOneThatIsStarted: a destination that is being started is not told as discarded, and keeps what it is started from.
func TestEndOfOneThatIsStarted(t *testing.T) {
	c, _ := conf(t)
	h := agent(t, c)
	defer h.Close()
	s := tiny("web")
	release, err := h.reserve(s)
	if err != nil {
		t.Fatal(err)
	}
	dir := h.vmDir("web")
	if err := errors.Join(os.MkdirAll(dir, 0o700), save(recordFile(dir), record{Version: recordVersion, Shape: s, Move: "m1"})); err != nil {
		t.Fatal(err)
	}
	if err := h.End(t.Context(), "web", "m1"); err == nil || !strings.Contains(err.Error(), "try again") {
		t.Errorf("while it is started: %v", err)
	}
	if _, err := loadRecord(dir); err != nil {
		t.Error(err)
	}
	release()
	if err := h.End(t.Context(), "web", "m1"); err != nil {
		t.Errorf("one that is not started any more: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was not forgotten: %v", err)
	}
}

// TestOperatorEndsADestination: who asks for it by its move, as an operator must whose move is held for that, ends the destination of it
// and no other.
func TestOperatorEndsADestination(t *testing.T) {
	c, _ := conf(t)
	h := agent(t, c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l) }()
	defer func() {
		cancel()
		if err := errors.Join(<-served, h.Close()); err != nil {
			t.Error(err)
		}
	}()
	m, _ := follows(t, h, "web", "m1")
	for _, args := range [][]string{{"web", "--force"}, {"web", "--force", "--move", "m2"}, {"web", "--move", "m1"}} {
		if err := operate(ctx, &c, "stop", args); err == nil || args[1] == "--force" && !strings.Contains(err.Error(), "m1") {
			t.Errorf("stop %q: %v", args, err)
		}
	}
	if _, err := h.machine("web"); err != nil {
		t.Errorf("it was ended: %v", err)
	}
	if err := operate(ctx, &c, "stop", []string{"web", "--force", "--move", "m1"}); err != nil {
		t.Error(err)
	}
	<-m.ended
}

// TestConfig: the whole of what is wrong is said at once.
func TestConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vmhost.yaml")
	text := `listen: nowhere
identity: id.pem
dir: d
accels: [hvf]
move: {ports: 9-1}
disks: [/]
images: [x]
networks:
  - {name: a, bridge: br0, user: true}
  - {name: a, forwards: ["tcp::1-:1"]}
  - {name: "a b"}
limits: {vms: -1}
surprise: 1
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, found, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	said := found.Detail()
	for _, want := range []string{"listen", "identity", "dir", "hvf", "ports", `"/" is not the absolute`, `"x" is not the absolute`, "bridge or a user", "already networks[0]", "forwards", "a b", "vms", "surprise"} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing about %q in:\n%s", want, said)
		}
	}
}

// TestDoors: who is not the manager gets in at no address, and who is needs an epoch for orders.
func TestDoors(t *testing.T) {
	c, a := conf(t)
	h := agent(t, c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l) }()
	defer func() {
		cancel()
		if err := errors.Join(<-served, h.Close()); err != nil {
			t.Error(err)
		}
	}()
	file, err := a.Enroll(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "b.pem"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := pki.ReadIdentity(filepath.Join(c.Dir, "b.pem"))
	if err != nil {
		t.Fatal(err)
	}
	host := client.New(l.Addr().String(), other.ClientTLS("a"))
	defer host.Close()
	if _, err := host.VMs(t.Context()); err == nil {
		t.Error("another host was let in")
	}
	config, err := a.ClientTLS("a")
	if err != nil {
		t.Fatal(err)
	}
	manager := client.New(l.Addr().String(), config)
	defer manager.Close()
	if _, err := manager.VMs(t.Context()); err != nil {
		t.Error(err)
	}
	if err := manager.Settle(t.Context(), "web", "m"); err == nil || !strings.Contains(err.Error(), client.EpochHeader) {
		t.Errorf("an order without an epoch: %v", err)
	}
	manager.SetEpoch(7)
	if err := manager.Settle(t.Context(), "web", "m"); !errors.Is(err, hypervisor.ErrNoSuchVM) {
		t.Errorf("an order with one: %v", err)
	}
	manager.SetEpoch(6) // it never falls
	if err := manager.Settle(client.WithEpoch(t.Context(), 6), "web", "m"); !errors.Is(err, hypervisor.ErrFenced) {
		t.Errorf("an order under an older epoch: %v", err)
	}
	operator := client.Local(h.Socket())
	defer operator.Close()
	if err := operator.End(t.Context(), "web", ""); err != nil {
		t.Errorf("the operator needs no epoch: %v", err)
	}
	if _, err := manager.Channel(t.Context(), "web", "agent"); !errors.Is(err, hypervisor.ErrNoSuchVM) {
		t.Errorf("a channel of a VM that is not there: %v", err)
	}
}

// FuzzRequest holds the agent to answering whatever comes, in its own words, and to leaving files alone but in its own
// directory. Its QEMU starts nothing.
func FuzzRequest(f *testing.F) {
	c, _ := conf(f)
	h := agent(f, c)
	f.Cleanup(func() { h.Close() })
	handler := h.handler(true)
	f.Add("POST", "/v1/vms/web/start", "1", `{"shape": {"version": 1, "vm": "web", "machine": "pc-1", "accel": "tcg", "cpu": {"model": "x"}, "vcpus": 1, "max_vcpus": 1, "memory": {"boot": 1048576}}}`)
	f.Add("POST", "/v1/vms/web/qmp", "1", `{"execute": "cont"}`)
	f.Add("POST", "/v1/vms/../end", "1", `{}`)
	f.Add("POST", "/v1/vms/%2e%2e/end", "1", `{"move": "m"}`)
	f.Add("POST", "/v1/vms/web/plug", "18446744073709551615", `{"VCPU": true}`)
	f.Add("POST", "/v1/vms/web/channel/agent", "2", ``)
	f.Add("GET", "/v1/vms/web/shape", "", ``)
	f.Add("GET", "/v1/vms", "x", ``)
	f.Fuzz(func(t *testing.T, method, path, epoch, body string) {
		if strings.HasPrefix(path, "/v1/events") {
			return // goes on until the client ends
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "http://h/", bytes.NewReader([]byte(body)))
		if err != nil {
			return
		}
		if r.URL, err = r.URL.Parse(path); err != nil {
			return
		}
		r.Header.Set(client.EpochHeader, epoch)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		entries, err := os.ReadDir(filepath.Dir(c.Dir))
		if err != nil || len(entries) != 2 {
			t.Fatalf("%s %s: beside the agent's directory and identity there is something: %v, %v", method, path, entries, err)
		}
	})
}

// TestWithin: a path is inside by its parts, not by its letters.
func TestWithin(t *testing.T) {
	for path, want := range map[string]bool{
		"/d/x": true, "/d/x/y": true, "/d": false, "/d/../etc/x": false, "/dd/x": false, "/d/../d/x": true, "d/x": false,
	} {
		if within(path, []string{"/d"}) != want {
			t.Errorf("%s: want %v", path, want)
		}
	}
}
