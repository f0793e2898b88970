package guestagent

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// built is the real thing.
func built(t *testing.T) *Package {
	t.Helper()
	p, err := Build(t.Context(), Options{Root: ".", Version: "v1.2.3-4-gabcdef", Epoch: "1700000000"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func dpkg(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("dpkg-deb", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("dpkg-deb %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestPackage has dpkg-deb read the package, and runs what is in it.
func TestPackage(t *testing.T) {
	p := built(t)
	dir := t.TempDir()
	program, deb, err := p.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	info := dpkg(t, "-I", deb)
	for _, want := range []string{"Package: ratchet-guest-agent", "Version: 1.2.3+4.gabcdef", "postinst", "prerm"} {
		if !strings.Contains(info, want) {
			t.Errorf("no %q in %s", want, info)
		}
	}
	var paths []string
	for line := range strings.Lines(dpkg(t, "-c", deb)) {
		f := strings.Fields(line)
		if f[1] != "root/root" || strings.HasPrefix(f[0], "-") && f[0][5] == 'w' {
			t.Errorf("owner or mode: %s", line)
		}
		paths = append(paths, f[len(f)-1])
	}
	for _, want := range []string{"./", "./usr/sbin/ratchet-guest-agent", "./lib/systemd/system/ratchet-guest-agent.service", "./etc/ratchet-guest-agent/hooks/"} {
		if !slices.Contains(paths, want) {
			t.Errorf("no %s in %v", want, paths)
		}
	}
	root := filepath.Join(dir, "root")
	dpkg(t, "-x", deb, root)
	installed, err := os.ReadFile(filepath.Join(root, "usr/sbin", Program))
	if err != nil || !bytes.Equal(installed, p.Program) {
		t.Errorf("what is installed differs: %v", err)
	}
	out, err := exec.Command(program, "--version").Output()
	if err != nil || strings.TrimSpace(string(out)) != "v1.2.3-4-gabcdef" {
		t.Errorf("version %q, %v", out, err)
	}
	if again := built(t); !bytes.Equal(again.Deb, p.Deb) {
		t.Error("a second build gave other bytes")
	}
}

func TestDebianVersion(t *testing.T) {
	order := []string{}
	for _, c := range [][2]string{
		{"a1caa2e", "0~a1caa2e"},
		{"a1caa2e-dirty", "0~a1caa2e.dirty"},
		{"v1.2.3-rc.1", "1.2.3~rc.1"},
		{"v1.2.3", "1.2.3"},
		{"v1.2.3-dirty", "1.2.3+dirty"},
		{"v1.2.3-4-gabcdef", "1.2.3+4.gabcdef"},
		{"v1.10.0", "1.10.0"},
	} {
		if got := debianVersion(c[0]); got != c[1] {
			t.Errorf("%s: %s, want %s", c[0], got, c[1])
		}
		order = append(order, c[1])
	}
	order = slices.DeleteFunc(order, func(v string) bool { return strings.Contains(v, "dirty") })
	for i := 1; i < len(order); i++ {
		if err := exec.Command("dpkg", "--compare-versions", order[i-1], "lt", order[i]).Run(); err != nil {
			t.Errorf("dpkg does not put %s before %s", order[i-1], order[i])
		}
	}
}
