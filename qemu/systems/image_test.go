package systems

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/qemu/internal/cache"
)

// tree is the source tree as seen from this package's tests.
const tree = "../.."

// built makes an image once per test process. What a test uses of it are links of its own, so that somebody who builds
// again meanwhile does not change the machine under test.
var built = struct {
	sync.Mutex
	done map[string]bool
}{done: map[string]bool{}}

// workspace is a test's folder in build/systems, empty, with the image in it. It stays after the test, without its disks
// when the test passed: the machines' consoles are what a failure is understood from.
func workspace(t testing.TB, name, flavour string) (dir, image string) {
	t.Helper()
	out := filepath.Join(tree, "build", "image", flavour)
	dir, err := filepath.Abs(filepath.Join(tree, "build", "systems", name))
	must(t, err)
	// Two runs of one test in one tree wait for each other.
	must(t, os.MkdirAll(filepath.Dir(dir), 0o755))
	mine, err := cache.Lock(dir + ".lock")
	must(t, err)
	t.Cleanup(mine)
	must(t, os.RemoveAll(dir))
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		big, _ := filepath.Glob(filepath.Join(dir, "*", "*.img")) // the pattern is right
		for _, f := range append(big, image, filepath.Join(dir, "s3"), filepath.Join(dir, "in.img"), filepath.Join(dir, "out.img")) {
			if err := os.RemoveAll(f); err != nil {
				t.Error(err)
			}
		}
	})
	image = filepath.Join(dir, "image")
	must(t, os.MkdirAll(image, 0o755))
	must(t, os.MkdirAll(out, 0o755))

	built.Lock()
	defer built.Unlock()
	unlock, err := cache.Lock(out + ".lock")
	must(t, err)
	defer unlock()
	if !built.done[flavour] {
		_, err := builder.Options{Flavour: flavour, Out: out}.Build(within(t, 9*time.Minute))
		must(t, err)
		built.done[flavour] = true
	}
	for _, f := range []string{
		builder.KernelFile, builder.InitrdFile, builder.CmdlineFile, builder.DiskFile,
		builder.ManifestFile, builder.ApplianceFile, builder.SignedFile, builder.UnsignedFile,
	} {
		must(t, os.Link(filepath.Join(out, f), filepath.Join(image, f)))
	}
	return dir, image
}

// certificate is the one that the image's development key goes with.
func certificate(t *testing.T) []byte {
	t.Helper()
	ring, _, err := keys.Development("")
	must(t, err)
	cert, err := ring.CertificatePEM(keys.SecureBoot)
	must(t, err)
	return cert
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within bounds a step.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// await asks until what it is told is what it waits for. It is for state that tells nobody when it changes.
func await(t testing.TB, limit time.Duration, what string, check func() (now string, ok bool)) {
	t.Helper()
	ctx := within(t, limit)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		now, ok := check()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited %s for %s; last seen: %s", limit, what, now)
		}
	}
}

func decode[T any](t testing.TB, text []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	return v
}
