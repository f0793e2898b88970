package systems

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

// volumeAdmin goes through the life of a volume with ratchetctl: a second one on the same disk comes, grows, gets a
// token, is handed over, and goes; clients of the first one never notice.
func volumeAdmin(t *testing.T) {
	_, image := workspace(t, "volume-admin", "full")
	w := startWorkstation(t, filepath.Join(image, builder.ApplianceFile))
	first := w.client(0)
	first.does("write -P 1 0 4M", "wrote 4194304/4194304")

	disk := "file:" + filepath.Join(w.dir, "disk")
	if out := w.ctl("volume", "create", "second", "--size", "32MiB", "--disk", disk, "--like", "demo", "--dry-run"); !strings.Contains(out, "name: second") {
		t.Errorf("dry run: %s", out)
	}
	// The disk is demo's from end to end: the second volume says so, and the first one goes on.
	w.ctl("volume", "create", "second", "--size", "32MiB", "--disk", disk, "--like", "demo")
	w.volume(t, "second", "failed", "no room on the disk for volume second")
	first.does("read -P 1 0 4M", "read 4194304/4194304")
	w.ctl("volume", "delete", "second", "--force")

	// Room is made by taking the first one off and on again; its data comes back from the store.
	first.quit()
	w.ctl("volume", "delete", "demo")
	w.ctl("volume", "create", "demo", "--size", "64MiB", "--disk", disk, "--path", filepath.Join(w.dir, "store"), "--cache-size", "96MiB")
	w.ctl("volume", "create", "second", "--size", "32MiB", "--disk", disk, "--like", "demo")
	w.volume(t, "demo", "attached", "")
	w.volume(t, "second", "attached", "")
	first = w.client(0)
	first.does("read -P 1 0 4M", "read 4194304/4194304")
	w.io(t, "second", "write -P 2 8M 4M", "flush", "read -P 2 8M 4M")

	w.ctl("volume", "resize", "second", "48MiB")
	w.io(t, "second", "write -P 3 40M 4M", "read -P 3 40M 4M", "read -P 2 8M 4M")
	w.refused(t, "--shrink", "volume", "resize", "second", "32MiB")
	w.ctl("volume", "resize", "second", "32MiB", "--shrink")
	if s := w.volume(t, "second", "attached", ""); s.Size != 32<<20 {
		t.Errorf("after shrinking the size is %d", s.Size)
	}

	export := decode[api.MadeToken](t, []byte(w.ctl("volume", "token", "make", "second", "host-a", "-o", "json"))).Export
	other := decode[api.MadeToken](t, []byte(w.ctl("volume", "token", "make", "second", "host-b", "-o", "json"))).Export
	w.ctl("volume", "handover", "second", "host-a", "host-b")
	w.io(t, other, "write -P 4 1M 64k", "read -P 4 1M 64k")
	if out := w.qemuIO(t, export, "write -P 5 1M 64k"); !strings.Contains(out, "failed") {
		t.Errorf("the former writer writes: %s", out)
	}
	if out := w.qemuIO(t, "second", "read 0 4k"); strings.Contains(out, "read 4096/4096") {
		t.Errorf("a client without a token reads: %s", out)
	}
	if out := w.ctl("volume", "attach-info", "second"); !strings.Contains(out, "second@TOKEN") || !strings.Contains(out, w.dir+"/nbd.sock") {
		t.Errorf("attach-info: %s", out)
	}
	if out := w.ctl("volume", "stats", "demo"); !strings.Contains(out, "read") {
		t.Errorf("stats: %s", out)
	}
	w.ctl("volume", "evict", "demo")
	first.does("read -P 1 0 4M", "read 4194304/4194304")
	w.ctl("volume", "delete", "second")
	first.does("read -P 1 0 4M", "read 4194304/4194304")
	if out := w.ctl("config", "show"); strings.Contains(out, "second") {
		t.Errorf("the configuration still has it:\n%s", out)
	}
	seen(t, "two volumes on one disk: created, resized both ways, locked by token, handed over, deleted; a client of the other kept its connection")
}

// volume waits for a volume's state and returns it.
func (w *workstation) volume(t *testing.T, name, state, message string) (s api.Volume) {
	t.Helper()
	await(t, stepLimit, name+" to be "+state, func() (string, bool) {
		out := w.ctl("volume", "show", name, "-o", "json")
		s = decode[api.Volume](t, []byte(out))
		return out, s.State == state && strings.Contains(s.Message, message)
	})
	return s
}

// qemuIO runs commands on an export and returns what was said.
func (w *workstation) qemuIO(t *testing.T, export string, commands ...string) string {
	t.Helper()
	args := []string{"-f", "raw"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, _ := command(within(t, stepLimit), nil, "qemu-io", append(args, "nbd+unix:///"+export+"?socket="+w.dir+"/nbd.sock")...).CombinedOutput()
	return string(out)
}

func (w *workstation) io(t *testing.T, export string, commands ...string) {
	t.Helper()
	if out := w.qemuIO(t, export, commands...); strings.Contains(out, "failed") || strings.Contains(out, "can't open") {
		t.Fatalf("qemu-io %q on %s: %s", commands, export, out)
	}
}

// refused runs a command that must fail and say so.
func (w *workstation) refused(t *testing.T, says string, args ...string) {
	t.Helper()
	args = append([]string{"ctl", "--address", "unix:" + filepath.Join(w.dir, "run", "api.sock")}, args...)
	if out, err := command(within(t, stepLimit), nil, w.ratchet, args...).CombinedOutput(); err == nil || !strings.Contains(string(out), says) {
		t.Errorf("ratchetctl %q: %v: %s", args, err, out)
	}
}

// quit ends the client in order.
func (q *qemuIO) quit() {
	q.t.Helper()
	_, _ = q.in.Write([]byte("quit\n"))
	for range q.output {
	}
}
