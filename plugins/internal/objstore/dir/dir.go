// Package dir keeps objects as files of a directory.
//
// An object is one file, named by its key. Names that start with a dot are the driver's own:
// ".tmp" holds files that are being written, ".lock" serialises replacing and deleting among
// all processes that use the directory.
//
// A put writes and syncs a temporary file, gives it its name (link for PutIfAbsent, rename for
// PutIfMatch), and syncs the directory: after a power cut an object is absent or whole. A file that
// has a key is never written to, so what is open stays as it is while another takes its place.
//
// The etag of a small object is the SHA-256 of its content, that of a large one a random generation kept with its file
// (etag.go).
package dir

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

const (
	tmpDir   = ".tmp"
	lockFile = ".lock"
	// staleAge is how old a temporary file must be before it is taken for the rest of a
	// crash: longer than any put can take.
	staleAge = time.Hour
)

// Store is an object store in a directory.
type Store struct {
	root *os.Root
	// turn is held by the one goroutine of this process that holds or waits for the lock file.
	turn chan struct{}
	// setAttr is fsetxattr(2), or what a file system without attributes makes of it.
	setAttr func(fd int, name string, value []byte, flags int) error
}

var _ objstore.Store = (*Store)(nil)

// Open returns the store in the directory at path, which it creates if needed.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, fmt.Errorf("open object directory: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open object directory: %w", err)
	}
	return open(root)
}

// OpenFile returns the store in the subdirectory sub ("" for none) of a directory that is open
// already, for processes that were handed one and cannot reach it by name. The caller keeps f.
func OpenFile(f *os.File, sub string) (*Store, error) {
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err == nil && sub != "" {
		top := root
		if err = top.MkdirAll(sub, 0o750); err == nil {
			root, err = top.OpenRoot(sub)
		}
		top.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("open object directory %s: %w", f.Name(), err)
	}
	return open(root)
}

func open(root *os.Root) (*Store, error) {
	s := &Store{root: root, turn: make(chan struct{}, 1), setAttr: unix.Fsetxattr}
	if err := root.Mkdir(tmpDir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		root.Close()
		return nil, fmt.Errorf("open object directory: %w", err)
	}
	s.sweep(time.Now().Add(-staleAge))
	return s, nil
}

// sweep removes what a crash left in the temporary directory. Failing to is harmless.
func (s *Store) sweep(before time.Time) {
	d, err := s.root.Open(tmpDir)
	if err != nil {
		return
	}
	defer d.Close()
	entries, _ := d.ReadDir(-1)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.ModTime().Before(before) {
			s.root.Remove(path.Join(tmpDir, e.Name()))
		}
	}
}

// Close implements objstore.Store.
func (s *Store) Close() error { return s.root.Close() }

// Probe implements objstore.Store.
func (s *Store) Probe(ctx context.Context) error { return objstore.ProbeConditional(ctx, s) }

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	f, size, err := s.open(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	defer f.Close()
	if off < 0 {
		return nil, fmt.Errorf("get %s: offset %d", key, off)
	}
	left := max(size-off, 0)
	if n < 0 || n > left {
		n = left
	}
	p, err := read(f, off, n)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return p, nil
}

// Load implements objstore.Store.
func (s *Store) Load(ctx context.Context, key string) ([]byte, string, error) {
	f, size, err := s.open(ctx, key)
	if err != nil {
		return nil, "", fmt.Errorf("load %s: %w", key, err)
	}
	defer f.Close()
	p, err := read(f, 0, size)
	if err != nil {
		return nil, "", fmt.Errorf("load %s: %w", key, err)
	}
	e, err := etag(f, p)
	if err != nil {
		return nil, "", fmt.Errorf("load %s: %w", key, classify(err))
	}
	return p, e, nil
}

// read returns n bytes from off, which the object has.
func read(f *os.File, off, n int64) ([]byte, error) {
	p := make([]byte, n)
	if k, err := f.ReadAt(p, off); err != nil && (!errors.Is(err, io.EOF) || int64(k) != n) {
		return nil, classify(err)
	}
	return p, nil
}

// Head implements objstore.Store. It reads an object that has no generation for its etag.
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	f, size, err := s.open(ctx, key)
	if err != nil {
		return objstore.Info{}, fmt.Errorf("head %s: %w", key, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return objstore.Info{}, fmt.Errorf("head %s: %w", key, classify(err))
	}
	e, err := etag(f, nil)
	if err != nil {
		return objstore.Info{}, fmt.Errorf("head %s: %w", key, classify(err))
	}
	return objstore.Info{Key: key, Size: size, ETag: e, Modified: st.ModTime()}, nil
}

func (s *Store) open(ctx context.Context, key string) (*os.File, int64, error) {
	if err := errors.Join(ctx.Err(), objstore.CheckKey(key)); err != nil {
		return nil, 0, err
	}
	f, err := s.root.Open(key)
	if err != nil {
		return nil, 0, classify(err)
	}
	st, err := f.Stat()
	switch {
	case err != nil:
		err = classify(err)
	case !st.Mode().IsRegular(): // a directory on the way to other keys
		err = objstore.ErrNotFound
	case st.Size() > objstore.MaxObject:
		err = fmt.Errorf("%d bytes, an object has at most %d", st.Size(), objstore.MaxObject)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := objstore.CheckKey(key); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	defer unlock()
	// Remove would also take an empty directory, which is no object.
	st, err := s.root.Lstat(key)
	if err == nil && !st.Mode().IsRegular() {
		return nil
	}
	if err == nil {
		err = s.root.Remove(key)
	}
	if err = classify(err); errors.Is(err, objstore.ErrNotFound) {
		return nil
	} else if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	if err := s.syncDir(path.Dir(key)); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// maxLock bounds the wait for the lock file.
const maxLock = 30 * time.Second

var errLocked = fmt.Errorf("%w: another process keeps the lock", objstore.ErrUnavailable)

// lock takes the directory's lock file. An end of ctx gives up waiting.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, maxLock, errLocked)
	defer cancel()
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() {
		if err != nil {
			<-s.turn
		}
	}()
	f, err := s.root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, classify(err)
	}
	// Another process holds it for the time of one small write; there is no event to wait for
	// that ctx could interrupt.
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close(); <-s.turn }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, classify(err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		}
	}
}

// classify gives an error of the file system its place in the contract of objstore.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w (%w)", objstore.ErrNotFound, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: if what is there has another owner than its directory, as after a run with --no-sandbox, give it to that one (chown -R): %w", objstore.ErrRefused, err)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: %w", objstore.ErrRefused, err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: the file system of its directory is full, make room there: %w", objstore.ErrUnavailable, err)
	case errors.Is(err, fs.ErrClosed):
		return err // waiting will not help
	default:
		return fmt.Errorf("%w: %w", objstore.ErrUnavailable, err)
	}
}

func randomName() string {
	var b [12]byte
	rand.Read(b[:])
	return path.Join(tmpDir, hex.EncodeToString(b[:]))
}
