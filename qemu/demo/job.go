package demo

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// job is the main job: write, upload, restart, read back, compare.
func (r *run) job(ctx context.Context) error {
	size := int64(r.MiB) << 20
	in, back := filepath.Join(r.Dir, "written.img"), filepath.Join(r.Dir, "read.img")
	wrote, err := random(in, size)
	if err != nil {
		return err
	}
	done := r.step("write")
	if err := nbdcopy(ctx, in, r.box.NBD(Volume)); err != nil {
		return err
	}
	done("%d MiB through %s", r.MiB, r.box.NBD(Volume))

	done = r.step("upload")
	if _, err := r.box.Ctl(ctx, "volume", "flush", Volume); err != nil {
		return err
	}
	done("everything is in the object store")

	done = r.step("restart")
	if _, err := r.box.Ctl(ctx, "plugin", "restart", Plugin); err != nil {
		return err
	}
	done("plugin %s serves again", Plugin)

	done = r.step("read back")
	if err := nbdcopy(ctx, r.box.NBD(Volume), back); err != nil {
		return err
	}
	read, err := sum(back, size)
	if err != nil {
		return err
	}
	if read != wrote {
		return fmt.Errorf("the volume returned other data than was written: sha256 %x, want %x", read, wrote)
	}
	done("%d MiB are the same, sha256 %x…", r.MiB, read[:6])
	return nil
}

// nbdcopy copies between a file and an export with libnbd's own client, flushing at the end.
func nbdcopy(ctx context.Context, from, to string) error {
	if out, err := exec.CommandContext(ctx, "nbdcopy", "--flush", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("nbdcopy %s %s: %w: %s", from, to, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// random writes data that does not compress, the same every time, and returns its digest.
func random(path string, size int64) (digest [32]byte, err error) {
	f, err := os.Create(path)
	if err != nil {
		return digest, err
	}
	defer f.Close()
	h := sha256.New()
	source := rand.NewChaCha8([32]byte([]byte("ratchet demonstration run, seed ")))
	if _, err := io.CopyN(io.MultiWriter(f, h), source, size); err != nil {
		return digest, err
	}
	return [32]byte(h.Sum(nil)), f.Close()
}

// sum is the digest of the first size bytes of a file.
func sum(path string, size int64) (digest [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return digest, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyN(h, f, size); err != nil {
		return digest, fmt.Errorf("read %s: %w", path, err)
	}
	return [32]byte(h.Sum(nil)), nil
}

// Tap passes the console on once somebody looks.
type Tap struct {
	mu sync.Mutex
	w  io.Writer
}

// Open begins to copy to w.
func (t *Tap) Open(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.w = w
}

func (t *Tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.w != nil {
		return t.w.Write(p)
	}
	return len(p), nil
}
