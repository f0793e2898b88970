package nbd_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// run runs a client program and returns what it printed. A missing program fails the test:
// these clients are the proof that we speak the protocol and not only to ourselves.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (r *running) uri() string { return "nbd+unix:///vol?socket=" + r.addr }

// withHoles writes an image with data, holes and odd places.
func withHoles(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	check(t, f.Truncate(size))
	rng := rand.New(rand.NewPCG(1, 2))
	for off := int64(0); off < size; off += 1 + rng.Int64N(2<<20) {
		p := make([]byte, min(1+rng.Int64N(200<<10), size-off))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		must[int](t)(f.WriteAt(p, off))
	}
	return path
}

// clientBackends are served to every real client: answered inline, and parked.
var clientBackends = map[string]func(size uint64) nbd.Backend{
	"inline": func(n uint64) nbd.Backend { return nbdtest.NewMemory(n) },
	"parked": func(n uint64) nbd.Backend { return nbdtest.Slow{Backend: nbdtest.NewMemory(n)} },
}

func TestClientNbdinfo(t *testing.T) {
	srv := serve(t, nbdtest.NewMemory(3*mib))
	c := srv.dial(t, nbdtest.Options{})
	check(t, c.Write(mib, bytes.Repeat([]byte{1}, mib), false))
	out := run(t, "nbdinfo", "--json", srv.uri())
	for _, want := range []string{
		`"protocol": "newstyle-fixed"`, `"export-size": 3145728`, `"can_multi_conn": true`, `"can_fast_zero": true`,
		`"can_cache": true`, `"can_df": true`, `"can_fua": true`, `"base:allocation"`, `"ratchet:state"`, `"a test volume"`, `"block_size_preferred": 4096`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("nbdinfo does not say %s:\n%s", want, out)
		}
	}
	if out := run(t, "nbdinfo", "--list", srv.uri()); !strings.Contains(out, `export="vol"`) {
		t.Errorf("nbdinfo --list:\n%s", out)
	}
	var got []string
	for line := range strings.Lines(run(t, "nbdinfo", "--map", srv.uri())) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := "0 1048576 3 hole,zero;1048576 1048576 0 data;2097152 1048576 3 hole,zero"
	if strings.Join(got, ";") != want {
		t.Errorf("nbdinfo --map: %q, want %q", got, want)
	}
}

func TestClientNbdcopy(t *testing.T) {
	const size = 24 * mib
	image := withHoles(t, size)
	for name, backend := range clientBackends {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, backend(size))
			back := filepath.Join(t.TempDir(), "back")
			run(t, "nbdcopy", "--connections=4", "--requests=32", "--flush", image, srv.uri())
			run(t, "nbdcopy", "--connections=4", srv.uri(), back)
			run(t, "cmp", image, back)
			if s := srv.export.Stats().Snapshot(); s.Flush.Ops == 0 || s.BlockStatus.Ops == 0 || s.WriteZeroes.Ops+s.Trim.Ops == 0 {
				t.Errorf("nbdcopy did not use what we offer: %d flushes, %d status, %d zeroes, %d trims",
					s.Flush.Ops, s.BlockStatus.Ops, s.WriteZeroes.Ops, s.Trim.Ops)
			}
		})
	}
}

func TestClientQemuImg(t *testing.T) {
	const size = 24 * mib
	image := withHoles(t, size)
	for name, backend := range clientBackends {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, backend(size))
			run(t, "qemu-img", "convert", "-n", "-W", "-m", "8", "-f", "raw", "-O", "raw", image, srv.uri())
			run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", image, srv.uri())
		})
	}
}

func TestClientQemuIO(t *testing.T) {
	for name, backend := range clientBackends {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, backend(16*mib))
			out := run(t, "qemu-io", "-f", "raw", "-t", "writeback", "-d", "unmap",
				"-c", "write -P 0x5a 0 8M", "-c", "write -f -P 0xa5 1000 3000", "-c", "flush",
				"-c", "read -P 0x5a 0 1000", "-c", "read -P 0xa5 1000 3000",
				"-c", "write -z -u 1M 1M", "-c", "read -P 0 1M 1M",
				"-c", "write -z 2M 64k", "-c", "read -P 0 2M 64k",
				"-c", "discard 4M 1M", "-c", "read -P 0 4M 1M",
				"-c", "aio_write -P 1 8M 1M", "-c", "aio_write -P 2 9M 1M", "-c", "aio_flush",
				"-c", "read -P 2 9M 1M", srv.uri())
			if strings.Contains(out, "failed") || strings.Contains(out, "error") {
				t.Errorf("qemu-io:\n%s", out)
			}
			s := srv.export.Stats().Snapshot()
			if s.Trim.Ops == 0 || s.WriteZeroes.Ops < 2 || s.Flush.Ops == 0 {
				t.Errorf("trims %d, zeroes %d, flushes %d", s.Trim.Ops, s.WriteZeroes.Ops, s.Flush.Ops)
			}
		})
	}
}

func TestClientFio(t *testing.T) {
	for name, backend := range clientBackends {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, backend(16*mib))
			run(t, "fio", "--name=verify", "--ioengine=nbd", "--uri="+srv.uri(), "--rw=randwrite", "--bsrange=512-128k",
				"--size=16m", "--iodepth=32", "--verify=crc32c", "--verify_fatal=1", "--fsync=64", "--randseed=7")
		})
	}
}
