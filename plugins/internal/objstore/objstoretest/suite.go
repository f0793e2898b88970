// Package objstoretest holds the conformance suite of objstore.Store, which every driver and
// decorator runs, and a store in memory.
package objstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// Run runs the suite. open returns a store on the same place at every call of one test and on
// an empty one in each test; the suite closes what it opens.
func Run(t *testing.T, place func(t *testing.T) (open func(t *testing.T) objstore.Store)) {
	for _, tc := range []struct {
		name string
		fn   func(t *testing.T, open func(t *testing.T) objstore.Store)
	}{
		{"Get", testGet},
		{"PutIfAbsent", testPutIfAbsent},
		{"PutIfMatch", testPutIfMatch},
		{"Delete", testDelete},
		{"List", testList},
		{"Keys", testKeys},
		{"Sizes", testSizes},
		{"CreateRace", testCreateRace},
		{"ReplaceRace", testReplaceRace},
		{"ETags", testETags},
		{"ETagRace", testETagRace},
		{"Reopen", testReopen},
		{"Context", testContext},
		{"Probe", testProbe},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := place(t)
			tc.fn(t, func(t *testing.T) objstore.Store {
				s := at(t)
				t.Cleanup(func() {
					if err := s.Close(); err != nil {
						t.Errorf("close: %v", err)
					}
				})
				return s
			})
		})
	}
}

type opener = func(t *testing.T) objstore.Store

func put(t *testing.T, s objstore.Store, key string, data []byte) string {
	t.Helper()
	etag, err := s.PutIfAbsent(t.Context(), key, data)
	if err != nil || etag == "" {
		t.Fatalf("put %s: etag %q, %v", key, etag, err)
	}
	return etag
}

func want(t *testing.T, what string, err, sentinel error) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Errorf("%s: %v, want %v", what, err, sentinel)
	}
}

// random returns bytes that do not compress, the same for the same seed.
func random(n int, seed uint64) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(p) // never fails
	return p
}

func testGet(t *testing.T, open opener) {
	s := open(t)
	data := random(10_000, 1)
	etag := put(t, s, "a/b/c", data)
	for _, tc := range []struct{ off, n, from, to int64 }{
		{0, -1, 0, 10_000},
		{0, 0, 0, 0},
		{0, 1, 0, 1},
		{9_999, 1, 9_999, 10_000},
		{5_000, -1, 5_000, 10_000},
		{5_000, 1_000, 5_000, 6_000},
		{9_000, 5_000, 9_000, 10_000},
		{10_000, 1, 0, 0},
		{10_000, -1, 0, 0},
		{99_999, 10, 0, 0},
	} {
		got, err := s.Get(t.Context(), "a/b/c", tc.off, tc.n)
		if err != nil || !bytes.Equal(got, data[tc.from:tc.to]) {
			t.Errorf("get %d+%d: %d bytes, %v", tc.off, tc.n, len(got), err)
		}
	}
	if _, err := s.Get(t.Context(), "a/b/c", -1, 1); err == nil {
		t.Error("get at -1 succeeded")
	}
	got, have, err := s.Load(t.Context(), "a/b/c")
	if err != nil || !bytes.Equal(got, data) || have != etag {
		t.Errorf("load: %d bytes as %q, %v; want etag %q", len(got), have, err, etag)
	}
	info, err := s.Head(t.Context(), "a/b/c")
	if err != nil || info.Size != 10_000 || info.ETag != etag || info.Key != "a/b/c" || info.Modified.IsZero() {
		t.Errorf("head: %+v, %v", info, err)
	}
	for _, n := range []int64{-1, 0, 1} {
		_, err = s.Get(t.Context(), "a/b", 0, n)
		want(t, "get of a directory", err, objstore.ErrNotFound)
	}
	_, _, err = s.Load(t.Context(), "a/b/c/d")
	want(t, "load below an object", err, objstore.ErrNotFound)
	_, err = s.Head(t.Context(), "nothing")
	want(t, "head of nothing", err, objstore.ErrNotFound)
}

func testPutIfAbsent(t *testing.T, open opener) {
	s := open(t)
	put(t, s, "k", []byte("one"))
	_, err := s.PutIfAbsent(t.Context(), "k", []byte("two"))
	want(t, "put over an object", err, objstore.ErrExists)
	_, err = s.PutIfAbsent(t.Context(), "k", []byte("one"))
	want(t, "repeated put", err, objstore.ErrExists)
	if got, err := s.Get(t.Context(), "k", 0, -1); err != nil || string(got) != "one" {
		t.Errorf("get: %q, %v", got, err)
	}
}

func testPutIfMatch(t *testing.T, open opener) {
	s := open(t)
	e1 := put(t, s, "head", []byte("one"))
	e2, err := s.PutIfMatch(t.Context(), "head", []byte("two, longer"), e1)
	if err != nil || e2 == "" || e2 == e1 {
		t.Fatalf("replace: etag %q after %q, %v", e2, e1, err)
	}
	_, err = s.PutIfMatch(t.Context(), "head", []byte("three"), e1)
	want(t, "replace with a stale etag", err, objstore.ErrPrecondition)
	var pe *objstore.PreconditionError
	if !errors.As(err, &pe) || pe.Key != "head" || pe.Have != "" && pe.Have != e2 {
		t.Errorf("error is %#v, want a PreconditionError", err)
	}
	_, err = s.PutIfMatch(t.Context(), "absent", []byte("x"), e2)
	want(t, "replace of nothing", err, objstore.ErrPrecondition)
	if got, etag, err := s.Load(t.Context(), "head"); err != nil || string(got) != "two, longer" || etag != e2 {
		t.Errorf("load: %q as %q, %v", got, etag, err)
	}
}

func testDelete(t *testing.T, open opener) {
	s := open(t)
	e := put(t, s, "a/b", []byte("x"))
	put(t, s, "a/c", []byte("stays"))
	for range 2 {
		if err := s.Delete(t.Context(), "a/b"); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
	_, err := s.Get(t.Context(), "a/b", 0, -1)
	want(t, "get after delete", err, objstore.ErrNotFound)
	_, err = s.PutIfMatch(t.Context(), "a/b", []byte("y"), e)
	want(t, "replace after delete", err, objstore.ErrPrecondition)
	if _, err := s.Get(t.Context(), "a/c", 0, -1); err != nil {
		t.Errorf("neighbour: %v", err)
	}
	put(t, s, "a/b", []byte("again"))
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Errorf("delete of a directory, which is no object: %v", err)
	}
	if _, err := s.Get(t.Context(), "a/b", 0, -1); err != nil {
		t.Errorf("object below it: %v", err)
	}
}

func testList(t *testing.T, open opener) {
	s := open(t)
	keys := []string{"a-b", "a.b", "a/b-c", "a/b/c", "a/b/d", "a/b0", "a0", "b/x=1", "b/x=2", "c/d/e/f", "z"}
	for i := range 40 {
		keys = append(keys, fmt.Sprintf("many/%03d", i))
	}
	for _, k := range keys {
		put(t, s, k, []byte(k))
	}
	slices.Sort(keys)
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "b/x", "many/", "many/01", "nothing", "nothing/at/all", "z"} {
		for _, after := range []string{"", "a", "a/b", "a/b/c", "a/b/cc", "b", "b/x=1", "many/020", "many/020x", "zz"} {
			var expect, got []string
			for _, k := range keys {
				if len(k) >= len(prefix) && k[:len(prefix)] == prefix && k > after {
					expect = append(expect, k)
				}
			}
			err := s.List(t.Context(), prefix, after, func(i objstore.Info) error {
				if i.Size != int64(len(i.Key)) || i.Modified.IsZero() {
					t.Errorf("%+v has a wrong size or time", i)
				}
				got = append(got, i.Key)
				return nil
			})
			if err != nil || !slices.Equal(got, expect) {
				t.Errorf("list %q after %q: %q, %v; want %q", prefix, after, got, err, expect)
			}
		}
	}
	stop, calls := errors.New("enough"), 0
	err := s.List(t.Context(), "", "", func(objstore.Info) error {
		if calls++; calls == 3 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || calls != 3 {
		t.Errorf("list ended with %v after %d calls", err, calls)
	}
}

func testKeys(t *testing.T, open opener) {
	s := open(t)
	for _, k := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", ".tmp/x", "a b", "a\x00", "ä", "a@", string(random(9, 3)), string(bytes.Repeat([]byte("a/"), 400)) + "a"} {
		if _, err := s.PutIfAbsent(t.Context(), k, nil); err == nil {
			t.Errorf("put of key %q succeeded", k)
		} else if errors.Is(err, objstore.ErrUnavailable) {
			t.Errorf("put of key %q: %v, but retrying will not help", k, err)
		}
		if _, err := s.Get(t.Context(), k, 0, 1); err == nil || errors.Is(err, objstore.ErrNotFound) {
			t.Errorf("get of key %q: %v", k, err)
		}
		if err := s.Delete(t.Context(), k); err == nil {
			t.Errorf("delete of key %q succeeded", k)
		}
	}
	if err := s.List(t.Context(), "../", "", func(objstore.Info) error { return nil }); err == nil {
		t.Error("list of ../ succeeded")
	}
}

func testSizes(t *testing.T, open opener) {
	s := open(t)
	for _, n := range []int{0, 1, 4 << 20, 20 << 20} {
		key, data := "size/"+strconv.Itoa(n), random(n, 2)
		etag := put(t, s, key, data)
		got, have, err := s.Load(t.Context(), key)
		if err != nil || !bytes.Equal(got, data) || have != etag {
			t.Errorf("%d bytes: read %d as %q, %v", n, len(got), have, err)
		}
	}
	if _, err := s.PutIfAbsent(t.Context(), "big", make([]byte, objstore.MaxObject+1)); err == nil || errors.Is(err, objstore.ErrUnavailable) {
		t.Errorf("put of more than MaxObject: %v", err)
	}
}

// testCreateRace lets two handles and many goroutines create the same objects.
func testCreateRace(t *testing.T, open opener) {
	stores := []objstore.Store{open(t), open(t)}
	for round := range 8 {
		key := fmt.Sprintf("race/%d", round)
		var wg sync.WaitGroup
		var winner atomic.Pointer[string]
		var wins atomic.Int32
		for g := range 8 {
			wg.Go(func() {
				data := fmt.Sprintf("from %d", g)
				for { // an unknown outcome is repeated, as callers do
					_, err := stores[g%2].PutIfAbsent(t.Context(), key, []byte(data))
					switch {
					case err == nil:
						wins.Add(1)
						winner.Store(&data)
					case errors.Is(err, objstore.ErrUnavailable):
						continue
					case !errors.Is(err, objstore.ErrExists):
						t.Errorf("loser: %v", err)
					}
					return
				}
			})
		}
		wg.Wait()
		got, err := stores[0].Get(t.Context(), key, 0, -1)
		if wins.Load() != 1 || err != nil || string(got) != *winner.Load() {
			t.Fatalf("%d winners, object %q, %v", wins.Load(), got, err)
		}
	}
}

// testReplaceRace counts up one object from many goroutines: every success must be seen by the
// next, so the end is the number of successes.
func testReplaceRace(t *testing.T, open opener) {
	stores := []objstore.Store{open(t), open(t)}
	put(t, stores[0], "counter", []byte("0"))
	var wg sync.WaitGroup
	const goroutines, each = 4, 5
	for g := range goroutines {
		wg.Go(func() {
			s := stores[g%2]
			for done := 0; done < each; {
				data, etag, err := s.Load(t.Context(), "counter")
				if err != nil {
					t.Errorf("load: %v", err)
					return
				}
				n, _ := strconv.Atoi(string(data))
				_, err = s.PutIfMatch(t.Context(), "counter", []byte(strconv.Itoa(n+1)), etag)
				switch {
				case err == nil:
					done++
				case !errors.Is(err, objstore.ErrPrecondition) && !errors.Is(err, objstore.ErrUnavailable):
					t.Errorf("replace: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	got, _ := stores[1].Get(t.Context(), "counter", 0, -1)
	if string(got) != strconv.Itoa(goroutines*each) {
		t.Errorf("counter is %s, want %d: an update was lost or done twice", got, goroutines*each)
	}
}

func testReopen(t *testing.T, open opener) {
	s := open(t)
	etag := put(t, s, "a/b", []byte("kept"))
	s2 := open(t)
	got, have, err := s2.Load(t.Context(), "a/b")
	if err != nil || string(got) != "kept" || have != etag {
		t.Errorf("after reopening: %q as %q, %v; want etag %q", got, have, err, etag)
	}
}

func testContext(t *testing.T, open opener) {
	s := open(t)
	etag := put(t, s, "k", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"get":           second(s.Get(ctx, "k", 0, -1)),
		"head":          second(s.Head(ctx, "k")),
		"put if absent": second(s.PutIfAbsent(ctx, "n", nil)),
		"put if match":  second(s.PutIfMatch(ctx, "k", nil, etag)),
		"list":          s.List(ctx, "", "", func(objstore.Info) error { return nil }),
		"delete":        s.Delete(ctx, "k"),
	} {
		want(t, name+" after the end of its context", err, context.Canceled)
	}
}

func second[T any](_ T, err error) error { return err }

func testProbe(t *testing.T, open opener) {
	s := open(t)
	if err := s.Probe(t.Context()); err != nil {
		t.Fatalf("probe: %v", err)
	}
	err := s.List(t.Context(), "", "", func(i objstore.Info) error {
		return fmt.Errorf("probe left %s", i.Key)
	})
	if err != nil {
		t.Error(err)
	}
}
