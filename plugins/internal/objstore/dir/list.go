package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(objstore.Info) error) error {
	if err := objstore.CheckPrefix(prefix); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	// Everything with the prefix is in one directory: that of its last slash.
	base := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		base = prefix[:i+1]
	}
	return s.walk(ctx, base, prefix, after, fn)
}

// walk lists the directory base, which is "" or ends in a slash.
func (s *Store) walk(ctx context.Context, base, prefix, after string, fn func(objstore.Info) error) error {
	d, err := s.root.Open(path.Clean("./" + base))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("list %s: %w", base, classify(err))
	}
	entries, err := d.ReadDir(-1)
	d.Close()
	if err != nil {
		return fmt.Errorf("list %s: %w", base, classify(err))
	}
	// Byte order of keys is not that of names: "a/b" sorts behind "a-b" although "a" is before it.
	byKey := make(map[string]fs.DirEntry, len(entries))
	for _, e := range entries {
		name := e.Name()
		switch {
		case objstore.CheckKey(base+name) != nil:
			continue // the driver's own, or not ours
		case e.IsDir():
			name += "/"
		case !e.Type().IsRegular():
			continue
		}
		byKey[base+name] = e
	}
	keys := make([]string, 0, len(byKey))
	for k := range byKey {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		if strings.HasSuffix(k, "/") {
			// A directory is passed over when all of it sorts before, or none has the prefix.
			if k < after && !strings.HasPrefix(after, k) || !strings.HasPrefix(k, prefix) && !strings.HasPrefix(prefix, k) {
				continue
			}
			if err := s.walk(ctx, k, prefix, after, fn); err != nil {
				return err
			}
			continue
		}
		if k <= after || !strings.HasPrefix(k, prefix) {
			continue
		}
		info, err := byKey[k].Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		} else if err != nil {
			return fmt.Errorf("list %s: %w", k, classify(err))
		}
		if err := fn(objstore.Info{Key: k, Size: info.Size(), Modified: info.ModTime()}); err != nil {
			return err
		}
	}
	return nil
}
