package dir_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/objstore/dir"
)

// TestSizesAndPlaces puts objects of odd sizes from odd places in memory: direct I/O takes the pages of those that begin at
// one, the rest goes another way, and either way the file holds what was given, whose memory is left alone.
func TestSizesAndPlaces(t *testing.T) {
	path := t.TempDir()
	s, err := dir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const page, most = 4096, 300 << 10
	memory := make([]byte, most+2*page) // as large as this the runtime begins it at a page
	_, _ = rand.NewChaCha8([32]byte{7}).Read(memory)
	was := bytes.Clone(memory)
	for _, n := range []int{small - 1, small, small + 1, small + page - 1, small + page, 99_999, most} {
		for _, at := range []int{0, 1, 512, page - 1, page} {
			key := fmt.Sprintf("%d-%d", n, at)
			etag, err := s.PutIfAbsent(t.Context(), key, memory[at:at+n])
			if err != nil {
				t.Fatalf("%d bytes at %d: %v", n, at, err)
			}
			got, err := os.ReadFile(filepath.Join(path, key))
			if err != nil || !bytes.Equal(got, was[at:at+n]) {
				t.Errorf("%d bytes at %d: the file has %d others, %v", n, at, len(got), err)
			}
			if data, have, err := s.Load(t.Context(), key); err != nil || have != etag || !bytes.Equal(data, was[at:at+n]) {
				t.Errorf("%d bytes at %d: loaded %d as %q, %v; want %q", n, at, len(data), have, err, etag)
			}
		}
	}
	if !bytes.Equal(memory, was) {
		t.Error("a put has changed the data it was given")
	}
}
