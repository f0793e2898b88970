package dir_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/dir"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/objstoretest"
)

func TestConformance(t *testing.T) {
	objstoretest.Run(t, func(t *testing.T) func(*testing.T) objstore.Store {
		path := filepath.Join(t.TempDir(), "objects")
		return func(t *testing.T) objstore.Store {
			s, err := dir.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}

func TestConformanceOfHandedOutDirectory(t *testing.T) {
	objstoretest.Run(t, func(t *testing.T) func(*testing.T) objstore.Store {
		f, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return func(t *testing.T) objstore.Store {
			s, err := dir.OpenFile(f, "volumes/one")
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}

// TestLeftovers checks that files of an interrupted put are invisible, go away when they are
// old, and stay while another process may be writing them.
func TestLeftovers(t *testing.T) {
	path := t.TempDir()
	s, err := dir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	write := func(name string, age time.Duration) string {
		p := filepath.Join(path, ".tmp", name)
		if err := os.WriteFile(p, []byte("half an obj"), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(p, at, at); err != nil {
			t.Fatal(err)
		}
		return p
	}
	old, young := write("old", 3*time.Hour), write("young", time.Minute)
	if s, err = dir.Open(path); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("old leftover: %v, want it gone", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("young leftover: %v, want it kept", err)
	}
	err = s.List(t.Context(), "", "", func(i objstore.Info) error {
		t.Errorf("list shows %s", i.Key)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestForeignFiles checks that what is not ours in the directory is neither listed nor reached
// through a symbolic link that leads out.
func TestForeignFiles(t *testing.T) {
	path, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.WriteFile(filepath.Join(path, "lost+found"), nil, 0o600),
		os.Symlink(outside, filepath.Join(path, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := dir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if data, err := s.Get(t.Context(), "link/secret", 0, -1); err == nil {
		t.Errorf("read %q from outside the directory", data)
	}
	if err := s.List(t.Context(), "", "", func(i objstore.Info) error { t.Errorf("list shows %s", i.Key); return nil }); err != nil {
		t.Error(err)
	}
}

// TestLockThatIsKept: a call does not wait without end for a process that stands still with the lock.
func TestLockThatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := t.TempDir()
		s, err := dir.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f, err := os.Create(filepath.Join(path, ".lock"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := s.Delete(t.Context(), "k"); !errors.Is(err, objstore.ErrUnavailable) || time.Since(start) > time.Minute {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}
