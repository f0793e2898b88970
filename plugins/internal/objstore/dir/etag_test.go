package dir_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/dir"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/objstoretest"
)

// TestConformanceWithoutAttributes runs the suite on a store that cannot keep generations and, where a test opens a second one,
// lets it share its directory with one that can, as a gateway of another version or on another machine may.
func TestConformanceWithoutAttributes(t *testing.T) {
	objstoretest.Run(t, func(t *testing.T) func(*testing.T) objstore.Store {
		path, n := filepath.Join(t.TempDir(), "objects"), 0
		return func(t *testing.T) objstore.Store {
			s, err := dir.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if n++; n%2 == 1 {
				return s.WithoutAttributes()
			}
			return s
		}
	})
}

func hashOf(p []byte) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:])
}

const (
	small = 64 << 10
	large = 1 << 20
)

// TestForeignHands checks what becomes of an object's etag when something else than a store has been at its file.
func TestForeignHands(t *testing.T) {
	one, two := bytes.Repeat([]byte("1"), large), bytes.Repeat([]byte("2"), large)
	at := time.Unix(1_700_000_000, 123_456_789)
	for _, tc := range []struct {
		name string
		do   func(file, beside string) error
		// The etag stays, or is the hash of the content now, or anything else than it was.
		same, hash bool
	}{
		{name: "read", same: true, do: func(file, _ string) error { _, err := os.ReadFile(file); return err }},
		{name: "linked", same: true, do: os.Link},
		{name: "renamed and back", same: true, do: func(file, beside string) error {
			return errors.Join(os.Rename(file, beside), os.Rename(beside, file))
		}},
		{name: "other rights", same: true, do: func(file, _ string) error { return os.Chmod(file, 0o600) }},
		{name: "written to", do: func(file, _ string) error {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(two, 0)
			return errors.Join(err, f.Close())
		}},
		{name: "cut short", do: func(file, _ string) error {
			return errors.Join(os.Truncate(file, large-1), os.Chtimes(file, at, at))
		}},
		{name: "replaced by a file of the same size and time", hash: true, do: func(file, beside string) error {
			return errors.Join(os.WriteFile(beside, two, 0o640), os.Chtimes(beside, at, at), os.Rename(beside, file))
		}},
		{name: "copied without attributes", hash: true, do: func(file, beside string) error {
			return errors.Join(os.WriteFile(beside, one, 0o640), os.Chtimes(beside, at, at), os.Rename(beside, file))
		}},
		{name: "attribute gone", hash: true, do: func(file, _ string) error { return unix.Removexattr(file, dir.GenerationAttr) }},
		{name: "attribute of an unknown kind", hash: true, do: func(file, _ string) error {
			return unix.Setxattr(file, dir.GenerationAttr, bytes.Repeat([]byte("x"), 17), 0)
		}},
		{name: "empty attribute", hash: true, do: func(file, _ string) error {
			return unix.Setxattr(file, dir.GenerationAttr, nil, 0)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := t.TempDir()
			s, err := dir.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := s.PutIfAbsent(t.Context(), "k", one); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(path, "k")
			if err := os.Chtimes(file, at, at); err != nil {
				t.Fatal(err)
			}
			before, err := s.Head(t.Context(), "k")
			if err != nil || before.ETag == hashOf(one) {
				t.Fatalf("etag %q, %v; want a generation (%s must be on a file system with user attributes)", before.ETag, err, path)
			}
			if err := tc.do(file, filepath.Join(path, "beside")); err != nil {
				t.Fatal(err)
			}
			data, etag, err := s.Load(t.Context(), "k")
			if err != nil || (etag == before.ETag) != tc.same || (etag == hashOf(data)) != tc.hash {
				t.Errorf("etag %q after %q, %v; hash of the content %s", etag, before.ETag, err, hashOf(data))
			}
			if _, err := s.PutIfMatch(t.Context(), "k", two, before.ETag); (err == nil) != tc.same {
				t.Errorf("replace with the etag before: %v", err)
			}
			if !tc.same {
				if _, err := s.PutIfMatch(t.Context(), "k", two, etag); err != nil {
					t.Errorf("replace with the etag of now: %v", err)
				}
			}
		})
	}
}

// TestSameSizeAndTime replaces an object by one that has its size and, set back by hand, its time.
func TestSameSizeAndTime(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	for _, n := range []int{small, large} {
		path := t.TempDir()
		s, err := dir.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		content := []string{strings.Repeat("a", n), strings.Repeat("b", n)}
		if _, err := s.PutIfAbsent(t.Context(), "k", []byte(content[0])); err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]string)
		for i := 1; i < 4; i++ {
			if err := os.Chtimes(filepath.Join(path, "k"), at, at); err != nil {
				t.Fatal(err)
			}
			have, err := s.Head(t.Context(), "k")
			if err != nil {
				t.Fatal(err)
			}
			was := content[(i-1)%2]
			if other, ok := seen[have.ETag]; ok && other != was {
				t.Errorf("%d bytes: two contents have the etag %s", n, have.ETag)
			}
			seen[have.ETag] = was
			if next, err := s.PutIfMatch(t.Context(), "k", []byte(content[i%2]), have.ETag); err != nil || next == have.ETag {
				t.Fatalf("%d bytes: etag %q after %q, %v", n, next, have.ETag, err)
			}
			if _, err := s.PutIfMatch(t.Context(), "k", nil, have.ETag); !errors.Is(err, objstore.ErrPrecondition) {
				t.Errorf("%d bytes: replace with a stale etag: %v", n, err)
			}
		}
	}
}

// TestCrashAfterLink leaves the temporary name of an object behind, as a process does that ends between giving it its key and
// cleaning up: the next one's sweep and replacement go by.
func TestCrashAfterLink(t *testing.T) {
	path := t.TempDir()
	s, err := dir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	etag, err := s.PutIfAbsent(t.Context(), "k", bytes.Repeat([]byte("1"), large))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	left := filepath.Join(path, ".tmp", "left")
	if err := os.Link(filepath.Join(path, "k"), left); err != nil {
		t.Fatal(err)
	}
	for _, age := range []time.Duration{0, 2 * time.Hour} {
		at := time.Now().Add(-age)
		if age > 0 {
			if err := os.Chtimes(left, at, at); err != nil { // of both names: they are one file
				t.Fatal(err)
			}
		}
		if s, err = dir.Open(path); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		info, err := s.Head(t.Context(), "k")
		if err != nil || (info.ETag == etag) != (age == 0) {
			t.Errorf("after %s: etag %q, %v; was %q", age, info.ETag, err, etag)
		}
		etag = info.ETag
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("old leftover: %v, want it gone", err)
	}
	if _, err := s.PutIfMatch(t.Context(), "k", bytes.Repeat([]byte("2"), large), etag); err != nil {
		t.Errorf("replace: %v", err)
	}
}

// BenchmarkPut measures the CPU time of a put of a batch, which is the kernel's writing and what the driver does besides.
func BenchmarkPut(b *testing.B) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16)
	for _, attributes := range []bool{true, false} {
		name := "generation"
		if !attributes {
			name = "hash"
		}
		b.Run(name, func(b *testing.B) {
			s, err := dir.Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			if !attributes {
				s.WithoutAttributes()
			}
			b.SetBytes(int64(len(data)))
			before, n := cpu(), 0
			for b.Loop() {
				if _, err := s.PutIfAbsent(b.Context(), "k", data); err != nil {
					b.Fatal(err)
				}
				if err := s.Delete(b.Context(), "k"); err != nil {
					b.Fatal(err)
				}
				n++
			}
			b.ReportMetric(float64((cpu()-before).Microseconds())/float64(n)/8, "cpu-us/MiB")
		})
	}
}

// cpu is the time that this process has used, which other processes do not stretch.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
