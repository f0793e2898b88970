package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// PutIfAbsent implements objstore.Store.
func (s *Store) PutIfAbsent(ctx context.Context, key string, data []byte) (string, error) {
	tmp, next, err := s.prepare(ctx, key, data)
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	defer s.root.Remove(tmp)
	// link fails when the name exists, atomically and among all processes.
	if err := s.root.Link(tmp, key); errors.Is(err, fs.ErrExist) {
		// Who finds an object relies on it: it must be durable although somebody else's put
		// may not have come that far.
		if err := s.syncDir(path.Dir(key)); err != nil {
			return "", fmt.Errorf("put %s: %w", key, err)
		}
		return "", fmt.Errorf("put %s: %w", key, objstore.ErrExists)
	} else if err != nil {
		return "", fmt.Errorf("put %s: %w", key, unavailable(err))
	}
	if err := s.syncDir(path.Dir(key)); err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	return next, nil
}

// PutIfMatch implements objstore.Store.
func (s *Store) PutIfMatch(ctx context.Context, key string, data []byte, etag string) (string, error) {
	tmp, next, err := s.prepare(ctx, key, data)
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	defer s.root.Remove(tmp) // is gone already after a rename
	unlock, err := s.lock(ctx)
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	defer unlock()
	// Nobody replaces or deletes it while the lock is held.
	have, err := s.Head(ctx, key)
	if err != nil && !errors.Is(err, objstore.ErrNotFound) {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	if err != nil || have.ETag != etag {
		return "", &objstore.PreconditionError{Key: key, Have: have.ETag}
	}
	if err := s.root.Rename(tmp, key); err != nil {
		return "", fmt.Errorf("put %s: %w", key, unavailable(err))
	}
	if err := s.syncDir(path.Dir(key)); err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	return next, nil
}

// prepare checks the arguments of a put, makes the directory of its key and writes the data to
// a temporary file. It returns the file's name and the etag that the object will have.
func (s *Store) prepare(ctx context.Context, key string, data []byte) (tmp, next string, err error) {
	if err := errors.Join(ctx.Err(), objstore.CheckKey(key)); err != nil {
		return "", "", err
	}
	if len(data) > objstore.MaxObject {
		return "", "", fmt.Errorf("%d bytes, an object has at most %d", len(data), objstore.MaxObject)
	}
	if err := s.makeDir(path.Dir(key)); err != nil {
		return "", "", err
	}
	tmp = randomName()
	f, err := s.root.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return "", "", unavailable(err)
	}
	next, err = s.fill(f, data)
	if err = errors.Join(err, f.Close()); err != nil {
		s.root.Remove(tmp) // else a later start sweeps it
		return "", "", unavailable(err)
	}
	return tmp, next, nil
}

// fill writes an object to a new file. All of it, and its generation, must be on the medium before its name is: else
// a power cut leaves an empty object, or one with another etag.
func (s *Store) fill(f *os.File, data []byte) (next string, err error) {
	if len(data) > hashedSize {
		s.mark(f)
	}
	// Past the page cache where that can be had: nobody here reads a batch soon, and it would be copied once more.
	direct := writeDirect(f, data)
	if _, err := f.Write(data[direct:]); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	return etag(f, data)
}

// makeDir makes a directory and its parents, each durable in its own parent.
func (s *Store) makeDir(dir string) error {
	if dir == "." {
		return nil
	}
	err := s.root.Mkdir(dir, 0o750)
	switch {
	case err == nil:
		return s.syncDir(path.Dir(dir))
	case errors.Is(err, fs.ErrExist):
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return unavailable(err)
	}
	if err := s.makeDir(path.Dir(dir)); err != nil {
		return err
	}
	if err := s.root.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return unavailable(err)
	}
	return s.syncDir(path.Dir(dir))
}

func (s *Store) syncDir(dir string) error {
	f, err := s.root.Open(dir)
	if err != nil {
		return unavailable(err)
	}
	return unavailable(errors.Join(f.Sync(), f.Close()))
}

// unavailable is classify for calls in which a missing name is no missing object: the
// directory itself went away, as that of an unmounted file system does.
func unavailable(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", objstore.ErrUnavailable, err)
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("part of the key is an object: %w", err)
	}
	return classify(err)
}
