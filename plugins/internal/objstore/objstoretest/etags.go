package objstoretest

import (
	"bytes"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// etagSizes are of objects that a driver may make etags for in different ways: a head, what fits a frame and what just does
// not.
var etagSizes = []int{300, 64 << 10, 64<<10 + 1}

// testETags replaces objects by others of the same size, as fast as the store can, so that neither size nor a coarse clock tells
// them apart, and asks for their etags in every way there is and through another handle.
func testETags(t *testing.T, open opener) {
	stores := []objstore.Store{open(t), open(t)}
	for _, n := range etagSizes {
		key := "etags/" + strconv.Itoa(n)
		agree := func(what string, data []byte, etag string) {
			t.Helper()
			for _, s := range stores {
				got, have, err := s.Load(t.Context(), key)
				if err != nil || have != etag || !bytes.Equal(got, data) {
					t.Errorf("%d bytes, %s: load as %q, %v; want %q", n, what, have, err, etag)
				}
				if info, err := s.Head(t.Context(), key); err != nil || info.ETag != etag {
					t.Errorf("%d bytes, %s: head has %q, %v; want %q", n, what, info.ETag, err, etag)
				}
			}
		}
		stale := func(what, etag string) {
			t.Helper()
			_, err := stores[1].PutIfMatch(t.Context(), key, random(n, 99), etag)
			want(t, strconv.Itoa(n)+" bytes, "+what, err, objstore.ErrPrecondition)
		}
		first := put(t, stores[0], key, random(n, 1))
		agree("created", random(n, 1), first)
		last := first
		for i := range uint64(3) {
			next, err := stores[i%2].PutIfMatch(t.Context(), key, random(n, 2+i), last)
			if err != nil || next == last {
				t.Fatalf("%d bytes, replacement %d: etag %q after %q, %v", n, i, next, last, err)
			}
			stale("replaced", last)
			agree("replaced", random(n, 2+i), next)
			last = next
		}
		stale("long replaced", first)
		if err := stores[1].Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		stale("deleted", last)
		again := put(t, stores[1], key, random(n, 50))
		stale("created again", last)
		agree("created again", random(n, 50), again)
	}
}

// testETagRace loads objects of one size while two handles replace them: an etag must be of exactly the bytes
// that came with it, and of two that replace the same object one must win.
func testETagRace(t *testing.T, open opener) {
	stores := []objstore.Store{open(t), open(t)}
	for _, n := range etagSizes {
		key := "race/" + strconv.Itoa(n)
		var known sync.Map // etag to the seed of the content
		last := put(t, stores[0], key, random(n, 0))
		known.Store(last, uint64(0))
		done := make(chan struct{})
		type seen struct {
			data []byte
			etag string
		}
		var loads []seen
		var loader sync.WaitGroup
		loader.Go(func() {
			for more := true; more && len(loads) < 64; {
				select {
				case <-done:
					more = false // one more: the last
				default:
				}
				data, etag, err := stores[1].Load(t.Context(), key)
				if err != nil {
					t.Errorf("load: %v", err)
					return
				}
				loads = append(loads, seen{data, etag})
			}
		})
		for round := range uint64(3) {
			var wins atomic.Int32
			var racers sync.WaitGroup
			var winner atomic.Pointer[string]
			for g := range uint64(2) {
				racers.Go(func() {
					seed := 1 + 2*round + g
					etag, err := stores[g].PutIfMatch(t.Context(), key, random(n, seed), last)
					for range 100 { // a store that is asked twice at once may tell one to come again
						if !errors.Is(err, objstore.ErrUnavailable) {
							break
						}
						etag, err = stores[g].PutIfMatch(t.Context(), key, random(n, seed), last)
					}
					switch {
					case err == nil:
						wins.Add(1)
						known.Store(etag, seed)
						winner.Store(&etag)
					case !errors.Is(err, objstore.ErrPrecondition):
						t.Errorf("loser: %v", err)
					}
				})
			}
			racers.Wait()
			if wins.Load() != 1 {
				t.Fatalf("%d bytes, round %d: %d replaced one etag", n, round, wins.Load())
			}
			last = *winner.Load()
		}
		close(done)
		loader.Wait()
		for _, l := range loads {
			seed, ok := known.Load(l.etag)
			if !ok || !bytes.Equal(l.data, random(n, seed.(uint64))) {
				t.Fatalf("%d bytes: loaded as %q, which is the etag of something else", n, l.etag)
			}
		}
	}
}
