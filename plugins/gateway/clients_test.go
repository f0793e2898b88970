package gateway

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestClients lets the usual tools loose on a volume, before and after it is uploaded and moved to a new box.
func TestClients(t *testing.T) {
	b := newBox(t, t.TempDir())
	f := b.start()
	b.mustDial().Abandon()
	uri := "nbd+unix:///demo?socket=" + b.listener.Addr().String()
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	p := make([]byte, boxVolume)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range len(p) / 2 { // half noise, half hole
		p[i] = byte(r.Uint32())
	}
	if err := os.WriteFile(image, p, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "nbdcopy", "--flush", image, uri)
	if m := run(t, "nbdinfo", "--map", "--totals", uri); !strings.Contains(m, "hole,zero") || !strings.Contains(m, "data") {
		t.Errorf("map:\n%s", m)
	}
	// Requests of single sectors, zeroes with and without holes, and discards, each read back by pattern.
	run(t, "qemu-io", "-f", "raw", "-c", "write -P 7 512 512", "-c", "write -P 9 5000 3000", "-c", "write -z 65536 65536", "-c", "discard 1M 1M",
		"-c", "write -f -P 3 200k 4k", "-c", "flush", "-c", "read -P 7 512 512", "-c", "read -P 9 5000 3000", "-c", "read -P 0 64k 64k", "-c", "read -P 0 1M 1M", uri)
	run(t, "fio", "--name=v", "--ioengine=nbd", "--uri="+uri, "--rw=randrw", "--bsrange=512-32k", "--blockalign=512", "--size=2M", "--offset=8M", "--io_size=2M",
		"--verify=crc32c", "--verify_state_save=0", "--iodepth=16", "--output="+filepath.Join(dir, "fio"))
	if _, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: "demo"}); err != nil {
		t.Fatal(err)
	}
	run(t, "nbdcopy", uri, image)
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	b = newBox(t, b.store)
	b.start()
	b.mustDial().Abandon()
	again := filepath.Join(dir, "again")
	run(t, "nbdcopy", "nbd+unix:///demo?socket="+b.listener.Addr().String(), again)
	want, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(again)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("what the new box serves differs (%v)", err)
	}
}
