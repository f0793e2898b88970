package s3server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ratchetos/ratchet/image/gobuild"
	"github.com/ratchetos/ratchet/qemu/internal/cache"
)

// binary returns the path of the built server and builds it first if this content was never built.
func binary(ctx context.Context) (string, error) {
	module, err := moduleDir(ctx)
	if err != nil {
		return "", err
	}
	id, err := contentID(module)
	if err != nil {
		return "", err
	}
	dir, err := cache.Dir("tools", id)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "s3")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	unlock, err := cache.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	// Somebody else may have built it while we waited for the lock.
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fresh := path + ".new"
	if err := gobuild.Build(ctx, module, fresh, nil, "."); err != nil {
		return "", fmt.Errorf("build the S3 server in %s: %w", module, err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return "", err
	}
	return path, nil
}

// moduleDir finds qemu/s3 from the working folder's module, so that it works from any package's tests.
func moduleDir(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("ask go for the module's folder: %w", err)
	}
	dir := filepath.Join(filepath.Dir(strings.TrimSpace(string(out))), "qemu", "s3")
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return "", fmt.Errorf("find the S3 server's module, run this inside the Ratchet source tree: %w", err)
	}
	return dir, nil
}

// contentID names a build by everything that goes into it.
func contentID(module string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOARCH)
	files, err := filepath.Glob(filepath.Join(module, "*.go"))
	if err != nil {
		return "", err
	}
	for _, path := range append(files, filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")) {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, filepath.Base(path), len(b))
		h.Write(b)
	}
	return "s3-" + hex.EncodeToString(h.Sum(nil))[:16], nil
}

// tail keeps the end of a tool's output, where the reason stands.
func tail(b []byte) string {
	const keep = 2048
	if len(b) > keep {
		b = b[len(b)-keep:]
	}
	return strings.TrimSpace(string(b))
}
