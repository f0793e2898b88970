package sandbox

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the process that confines itself.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SANDBOX_DIR"); dir != "" {
		os.Exit(confined(dir))
	}
	os.Exit(m.Run())
}

// confined tries what must work and what must not; the exit status says what went wrong.
func confined(dir string) int {
	p := Default()
	if err := p.Confine(); err != nil {
		println(err.Error())
		return 10
	}
	if err := p.ConfineFiles([]string{filepath.Join(dir, "mine")}, false); err != nil {
		println(err.Error())
		return 11
	}
	tries := []struct {
		name string
		err  error
		want error
	}{
		{"mount", unix.Mount("none", dir, "tmpfs", 0, ""), unix.EPERM},
		{"unshare", unix.Unshare(unix.CLONE_NEWUSER), unix.EPERM},
		{"reboot", unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_ON), unix.EPERM},
		{"write mine", os.WriteFile(filepath.Join(dir, "mine", "f"), nil, 0o600), nil},
		{"write other", os.WriteFile(filepath.Join(dir, "f"), nil, 0o600), unix.EACCES},
		{"read", func() error { _, err := os.ReadFile("/proc/self/stat"); return err }(), nil},
		{"namespaces by clone", namespaced(), unix.EPERM},
		{"run a program", exec.Command("/bin/true").Run(), nil},
	}
	for i, try := range tries {
		if !errors.Is(try.err, try.want) {
			println(try.name, "gave", errText(try.err))
			return 20 + i
		}
	}
	return 0
}

func errText(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

func namespaced() error {
	c := exec.Command("/bin/true")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	return c.Run()
}

func TestConfine(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "mine"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "SANDBOX_DIR="+dir)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestLaunch(t *testing.T) {
	var attr syscall.SysProcAttr
	if err := (Launch{UID: 61184, Capabilities: []string{"CAP_NET_ADMIN", "CAP_NET_ADMIN"}}).Apply(&attr); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/bin/sh", "-c", "grep -E '^(Uid|CapEff|Groups)' /proc/self/status")
	c.SysProcAttr = &attr
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "CapEff:\t0000000000001000") || !strings.Contains(string(out), "61184") {
		t.Errorf("%v: %s", err, out)
	}
	// A process can be given what this one has, and starts without the rest.
	all := syscall.SysProcAttr{}
	var names []string
	for name := range capabilities() {
		names = append(names, name)
	}
	if err := (Launch{UID: 61184, Capabilities: names}).Apply(&all); err != nil {
		t.Fatal(err)
	}
	for name, c := range capabilities() {
		if slices.Contains(all.AmbientCaps, c) != Effective(c) {
			t.Errorf("%s given: %t, held: %t", name, !Effective(c), Effective(c))
		}
	}
	if err := (Launch{UID: 1, Capabilities: []string{"CAP_SYS_ADMIN"}, Companion: true}).Apply(&attr); err != nil {
		t.Error(err)
	}
	if err := (Launch{UID: 1, Capabilities: []string{"CAP_SYS_ADMIN"}}).Apply(&attr); err == nil || !strings.Contains(err.Error(), "CAP_NET_RAW") {
		t.Errorf("CAP_SYS_ADMIN: %v", err)
	}
}

// TestCgroup runs on a directory that looks like a hierarchy: it checks names, values and
// order. The kernel's part is tested in the booted image.
func TestCgroup(t *testing.T) {
	root := t.TempDir()
	if _, err := OpenCgroups(root); !errors.Is(err, ErrNoCgroup) {
		t.Errorf("no hierarchy: %v", err)
	}
	for path, text := range map[string]string{
		"cgroup.controllers": "cpu memory pids\n", "cgroup.subtree_control": "",
		"ratchet/cgroup.subtree_control": "", "ratchet/gateway/memory.max": "", "ratchet/gateway/pids.max": "",
		"ratchet/gateway/1/cgroup.kill": "",
	} {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := OpenCgroups(root)
	if err != nil {
		t.Fatal(err)
	}
	plugin, err := all.Plugin("gateway", Limits{Memory: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	process, err := plugin.Process(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"ratchet/cgroup.subtree_control": "+memory +pids",
		"ratchet/gateway/memory.max":     "67108864",
		"ratchet/gateway/pids.max":       "max",
		"ratchet/gateway/1/cgroup.kill":  "1",
	} {
		if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", path, got, err, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := process.Remove(ctx); err == nil {
		t.Error("a cgroup with files in it was removed")
	}
}
