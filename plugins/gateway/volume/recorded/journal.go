package recorded

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/objstoretest"
)

// Marks in the recording: one word, for the kernel takes no more.
const (
	markStore = "store-" // and how many changes of the store had been made
	markAcked = "acked-" // and how many ops a flush has covered
)

// JournaledStore is a store in memory that writes each of its changes to a journal, as a tar archive, and says so before
// the caller learns of it.
type JournaledStore struct {
	*objstoretest.Memory
	Said func(mark string) error // called after each change

	mu      sync.Mutex
	journal *tar.Writer
	changes int
}

// NewJournaledStore returns an empty store.
func NewJournaledStore(journal io.Writer, said func(mark string) error) *JournaledStore {
	return &JournaledStore{Memory: objstoretest.NewMemory(), Said: said, journal: tar.NewWriter(journal)}
}

// Close ends the journal.
func (s *JournaledStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.journal.Close(), s.Memory.Close())
}

// PutIfAbsent implements objstore.Store.
func (s *JournaledStore) PutIfAbsent(ctx context.Context, key string, data []byte) (etag string, err error) {
	return s.put(key, data, func() (string, error) { return s.Memory.PutIfAbsent(ctx, key, data) })
}

// PutIfMatch implements objstore.Store.
func (s *JournaledStore) PutIfMatch(ctx context.Context, key string, data []byte, etag string) (newETag string, err error) {
	return s.put(key, data, func() (string, error) { return s.Memory.PutIfMatch(ctx, key, data, etag) })
}

// Delete implements objstore.Store.
func (s *JournaledStore) Delete(ctx context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.Memory.Delete(ctx, key); err != nil {
		return err
	}
	return s.record(key, nil, true)
}

func (s *JournaledStore) put(key string, data []byte, do func() (string, error)) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	etag, err := do()
	if err != nil {
		return "", err
	}
	return etag, s.record(key, data, false)
}

func (s *JournaledStore) record(key string, data []byte, gone bool) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: key, Size: int64(len(data)), ModTime: time.Unix(0, 0), Mode: 0o644}
	if gone {
		h.Typeflag = tar.TypeSymlink // the only use of the kind here
		h.Linkname = "deleted"
	}
	if err := s.journal.WriteHeader(h); err != nil {
		return err
	}
	if _, err := s.journal.Write(data); err != nil {
		return err
	}
	if err := s.journal.Flush(); err != nil {
		return err
	}
	s.changes++
	return s.Said(markStore + strconv.Itoa(s.changes))
}

// StoreAt follows a journal.
type StoreAt struct {
	journal *tar.Reader
	changes int
	objects map[string][]byte
}

// NewStoreAt starts before the first change.
func NewStoreAt(journal io.Reader) *StoreAt {
	return &StoreAt{journal: tar.NewReader(journal), objects: map[string][]byte{}}
}

// Advance to the store after that many changes.
func (s *StoreAt) Advance(changes int) error {
	for ; s.changes < changes; s.changes++ {
		h, err := s.journal.Next()
		if err != nil {
			return fmt.Errorf("change %d of the store: %w", s.changes+1, err)
		}
		if h.Typeflag == tar.TypeSymlink {
			delete(s.objects, h.Name)
			continue
		}
		var b bytes.Buffer
		if _, err := io.Copy(&b, io.LimitReader(s.journal, objstore.MaxObject)); err != nil {
			return fmt.Errorf("change %d of the store: %w", s.changes+1, err)
		}
		s.objects[h.Name] = b.Bytes()
	}
	return nil
}

// Store is a new store with what the recorded one held.
func (s *StoreAt) Store(ctx context.Context) (objstore.Store, error) {
	m := objstoretest.NewMemory()
	for key, data := range s.objects {
		if _, err := m.PutIfAbsent(ctx, key, data); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// number reads a mark that starts with prefix.
func number(mark, prefix string) (n int, ok bool) {
	rest, ok := strings.CutPrefix(mark, prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(rest)
	return n, err == nil
}

var _ objstore.Store = (*JournaledStore)(nil)
