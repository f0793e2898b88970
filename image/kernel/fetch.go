package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Kernel is an unpacked kernel package in the cache.
type Kernel struct {
	Flavour string
	Package string
	Version string // of the package
	SHA256  string // of the .deb, hex
	Release string // uname -r, and the folder under /lib/modules
	Locked  bool   // false when the locked version could not be had
	Warning string // why, when not Locked

	Dir     string // cache folder
	Vmlinuz string // path of the bzImage, an EFI application
	Config  string // path of the kernel's configuration
	Modules string // path of the folder that holds kernel/, modules.builtin, …
}

// Options of a fetch. The zero value uses the committed lock and the user's cache folder.
type Options struct {
	Lock  *Lock
	Cache string // root of the cache; "" for $XDG_CACHE_HOME/ratchet/kernel
	Log   *slog.Logger
}

// Fetch returns the kernel of a flavour ("cloud", "full") with default options.
func Fetch(ctx context.Context, flavour string) (*Kernel, error) {
	return Options{}.Fetch(ctx, flavour)
}

// Fetch returns the kernel of a flavour, from the cache when it is there.
func (o Options) Fetch(ctx context.Context, flavour string) (*Kernel, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Lock == nil {
		l, err := Committed()
		if err != nil {
			return nil, err
		}
		o.Lock = l
	}
	pin, err := o.Lock.Pin(flavour)
	if err != nil {
		return nil, err
	}
	if o.Cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find cache folder: %w", err)
		}
		o.Cache = filepath.Join(dir, "ratchet", "kernel")
	}
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("make cache folder: %w", err)
	}
	// One build at a time per flavour; the kernel drops the lock when the process ends.
	unlock, err := lockFile(ctx, filepath.Join(o.Cache, flavour+".lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()

	k, err := o.locked(ctx, pin)
	var gone *unavailableError
	if errors.As(err, &gone) {
		k, err = o.candidate(ctx, pin, gone)
	}
	if err != nil {
		return nil, err
	}
	k.Flavour = flavour
	return k, nil
}

// locked gets exactly what the lock names.
func (o Options) locked(ctx context.Context, pin Pin) (*Kernel, error) {
	dir := o.dir(pin)
	if k, err := open(dir); err == nil {
		k.Locked = true
		return k, nil
	}
	k, err := o.fetch(ctx, dir, pin)
	if err != nil {
		return nil, err
	}
	k.Locked = true
	return k, nil
}

// candidate gets what the meta package points to today, checked against apt's own digest.
func (o Options) candidate(ctx context.Context, pin Pin, why error) (*Kernel, error) {
	now, err := aptCandidate(ctx, pin.Meta)
	if err != nil {
		return nil, fmt.Errorf("%w (and no candidate: %w)", why, err)
	}
	warning := fmt.Sprintf("locked kernel %s %s is not available, using %s %s; update configs/kernel.lock",
		pin.Package, pin.Version, now.Package, now.Version)
	o.Log.Warn(warning)
	dir := o.dir(now)
	k, err := open(dir)
	if err != nil {
		if k, err = o.fetch(ctx, dir, now); err != nil {
			return nil, err
		}
	}
	k.Warning = warning
	return k, nil
}

// fetch downloads a package, holds it against its digest and unpacks it to dir.
func (o Options) fetch(ctx context.Context, dir string, p Pin) (*Kernel, error) {
	deb, drop, err := o.download(ctx, p.Package, p.Version)
	if err != nil {
		return nil, err
	}
	defer drop()
	if err := checkDigest(deb, p.SHA256); err != nil {
		return nil, err
	}
	return o.unpack(ctx, deb, dir, p)
}

func (o Options) dir(p Pin) string {
	return filepath.Join(o.Cache, fmt.Sprintf("%s_%s_%.12s", p.Package, p.Version, p.SHA256))
}

func checkDigest(path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open kernel package: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("read kernel package: %w", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("kernel package %s has sha256 %s, expected %s: the mirror serves other bytes than were locked; do not use it",
			filepath.Base(path), got, want)
	}
	return nil
}

// lockFile takes an exclusive lock, waiting at most until ctx ends.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for another build to release %s: %w", path, ctx.Err())
		case <-tick.C:
		}
	}
}
