package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

const (
	// maxErase bounds the objects deleted after one look at the head.
	maxErase = 256
	// pageKeys is how much of a list is read at once, and sweepPages how many such pages for one piece of housekeeping,
	// behind which a commit may wait. A volume can have a million objects.
	pageKeys   = 1000
	sweepPages = 8
	// enoughDead objects are worth a step of their own.
	enoughDead = 32
	// enoughUntidy bounds the leaves mended in one step.
	enoughUntidy = 64
	// Garbage is worth moving data for when it is this much and more than this part of all.
	minGarbage  = 16 << 20
	garbagePart = 4
	// busyGarbage is how many times what lives is left lying while there is always something to commit. The longer an object is
	// left, the less of it lives and has to be moved: while a whole volume was overwritten at random, a write cost 24 to 27 µs of
	// processor time with as much garbage as data, 21 to 24 with twice as much. Graves, which wait an hour, are far more then.
	busyGarbage = 2
)

// yard is a number of graves that this session saw at one time.
type yard struct {
	since time.Time
	ids   []manifest.ID
}

// bury starts the grace of graves that were not seen before.
func (r *Remote) bury(graves []manifest.ID) {
	known := make(map[manifest.ID]bool)
	for _, y := range r.yards {
		for _, id := range y.ids {
			known[id] = true
		}
	}
	fresh := yard{since: r.o.Now()}
	for _, id := range graves {
		if !known[id] {
			fresh.ids = append(fresh.ids, id)
		}
	}
	if len(fresh.ids) > 0 {
		r.yards = append(r.yards, fresh)
	}
}

// Tidy does one bounded piece of housekeeping, if there is any to do, and reports whether there may be
// more. It is meant to be called while there is nothing to commit; with nothing to do it costs next to
// nothing. It keeps trying while the store is down, until ctx ends. ErrFenced and ErrDiverged are for good; other
// errors leave everything as it was.
func (r *Remote) Tidy(ctx context.Context) (more bool, err error) {
	r.lastTidied = r.o.Now()
	if r.tidyAt == r.etag { // looked over since the last commit, but for what time brings
		return r.collect(ctx)
	}
	pieces := [...]func(context.Context) (bool, error){r.collect, r.fold, r.sweep, r.evacuate}
	for range pieces {
		// In turns, so that one that always finds something does not starve the others.
		piece := pieces[r.turn%len(pieces)]
		r.turn++
		done, err := piece(ctx)
		if err != nil {
			return false, fmt.Errorf("tidy up: %w", err)
		}
		if done {
			return true, nil
		}
	}
	r.tidyAt = r.etag
	r.Rest()
	return false, nil
}

// fold folds deltas into leaves before Commit has to, and mends leaves.
func (r *Remote) fold(ctx context.Context) (bool, error) {
	var leaves []uint64
	if r.blocks.Pending() >= r.maxPending/2 || len(r.head.Deltas) >= manifest.MaxDeltas/2 {
		leaves = r.blocks.Busiest(maxLeaves)
	}
	if len(leaves) == 0 {
		leaves = r.blocks.Untidy(enoughUntidy, true)
	}
	if s := r.blocks.Stats(); len(leaves) == 0 && (s.Dead < enoughDead || s.Graves > manifest.MaxGraves) {
		return false, nil
	}
	return true, r.compact(ctx, job{leaves: leaves, gather: true})
}

// evacuate moves what lives out of objects that are mostly dead, when these are much of what is stored. What is damaged is
// passed over; it is an error when there is nothing else, and then a while passes before the next look.
func (r *Remote) evacuate(ctx context.Context) (bool, error) {
	s := r.blocks.Stats()
	if garbage := s.Bytes - s.Live; garbage < minGarbage || garbage < s.Bytes/garbagePart {
		return false, nil
	}
	if r.o.Now().Sub(r.damaged) < tidyEvery {
		return false, nil
	}
	var damage error
	for _, kind := range []manifest.Kind{manifest.KindLeaf, manifest.KindData} {
		done, err := r.empty(ctx, r.blocks.Sparsest(kind, leaveAtOnce))
		if err != nil {
			err = fmt.Errorf("move what lives in objects that are mostly dead: %w", err)
		}
		switch {
		case errors.Is(err, ErrCorrupt):
			damage = err
		case done || err != nil:
			return done, err
		}
	}
	if damage != nil {
		r.damaged = r.o.Now()
	}
	return false, damage
}

// empty moves what lives out of objects, as much as fits in a step, and reports whether that was something. The first one
// says where to look; if all of that is damaged, the next one.
func (r *Remote) empty(ctx context.Context, objects []manifest.Object) (bool, error) {
	var damage error
	for ; len(objects) > 0; objects = objects[1:] {
		j, err := r.leaving(ctx, objects)
		if err == nil {
			step := r.blocks.Begin()
			packs, n, e := r.rewrite(ctx, step, j)
			if n > 0 {
				return true, r.settle(ctx, step, packs, nil)
			}
			err = e
		}
		if !errors.Is(err, ErrCorrupt) {
			return false, err
		}
		damage = err
	}
	return false, damage
}

// relieve does of Tidy what makes room in the store, and nothing else: a commit waits for it.
func (r *Remote) relieve(ctx context.Context) error {
	done, err := r.collect(ctx)
	if err == nil && !done {
		_, err = r.evacuate(ctx)
	}
	return err
}

// collect deletes graves whose grace is over.
func (r *Remote) collect(ctx context.Context) (bool, error) {
	if len(r.yards) == 0 {
		return false, nil
	}
	y := &r.yards[0]
	if r.o.Now().Sub(y.since) < r.o.Grace && r.o.mutant != mutantNoGrace {
		return false, nil
	}
	if r.o.mutant != mutantNoRecheck {
		if err := r.recheck(ctx); err != nil {
			return false, err
		}
	}
	some := y.ids[:min(maxErase, len(y.ids))]
	if err := r.erase(ctx, some); err != nil {
		return false, err
	}
	gone := make(map[manifest.ID]bool, len(some))
	for _, id := range some {
		gone[id] = true
	}
	r.mu.Lock()
	r.blocks.Buried(gone)
	r.mu.Unlock()
	if y.ids = y.ids[len(some):]; len(y.ids) == 0 {
		r.yards = r.yards[1:]
	}
	return true, nil
}

// recheck makes sure that the head is still the one that we have put there.
func (r *Remote) recheck(ctx context.Context) error {
	return r.breaker.retry(ctx, func(ctx context.Context) error {
		found, etag, err := r.loadHead(ctx)
		switch {
		case errors.Is(err, objstore.ErrNotFound):
			return fmt.Errorf("the head is gone: %w", ErrDiverged)
		case err != nil:
			return err
		case found.Session != r.session || etag != r.etag:
			return r.stranger(found)
		}
		return nil
	})
}

// erase deletes objects that are still in their graves: the same content may have been put again since, under
// the same name.
func (r *Remote) erase(ctx context.Context, ids []manifest.ID) error {
	named := r.named()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(tidyGets)
	for _, id := range ids {
		if r.o.mutant != mutantNoRecheck && r.o.mutant != mutantEarly && (r.blocks.Refers(id) || named[id]) {
			continue
		}
		g.Go(func() error {
			return r.breaker.retry(ctx, func(ctx context.Context) error { return optional(r.o.Store.Delete(ctx, r.key(id))) })
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("delete what nothing refers to: %w", err)
	}
	return nil
}

// named are the objects that the head itself names.
func (r *Remote) named() map[manifest.ID]bool {
	set := make(map[manifest.ID]bool)
	for _, id := range append(r.head.DeltaIDs(), r.head.RootID()) {
		set[id] = true
	}
	return set
}

var errEnough = errors.New("enough")

// place is how far a sweep has come: through all kinds before this one, and the keys of this one up to after.
type place struct {
	kind  int // of manifest.Kinds
	after string
}

// sweep finds, once in a session and a few pages at a time, what earlier epochs have put and never committed. Nobody can
// commit it any more: that takes the head of its epoch. What a list leaves out stays for another session.
func (r *Remote) sweep(ctx context.Context) (bool, error) {
	kinds := manifest.Kinds()
	if r.swept.kind == len(kinds) {
		return false, nil
	}
	at := r.swept
	var found []manifest.ID
	for n := 0; n < sweepPages && at.kind < len(kinds); n++ {
		page, more, err := r.page(ctx, kinds[at.kind], &at.after)
		if err != nil {
			return false, err
		}
		found = append(found, page...)
		if !more {
			at = place{kind: at.kind + 1}
		}
	}
	orphans := r.orphans(found)
	if len(orphans) > 0 {
		if err := r.compact(ctx, job{dead: orphans}); err != nil {
			return false, err
		}
	}
	r.swept = at
	return len(orphans) > 0 || at.kind < len(kinds), nil
}

// orphans are those of earlier epochs' objects that nothing refers to and that await no deletion.
func (r *Remote) orphans(ids []manifest.ID) []manifest.ID {
	known := r.named()
	for _, id := range r.blocks.Graves() {
		known[id] = true
	}
	return slices.DeleteFunc(ids, func(id manifest.ID) bool { return known[id] || r.blocks.Refers(id) })
}

// page lists the next objects of a kind that epochs before ours have put, behind the key after, which it moves. more says
// that there may be others. A list that breaks off goes on where it was.
func (r *Remote) page(ctx context.Context, kind manifest.Kind, after *string) (ids []manifest.ID, more bool, err error) {
	prefix := r.prefix + kind.String() + "/"
	left := pageKeys
	err = r.breaker.retry(ctx, func(ctx context.Context) error {
		return optional(r.o.Store.List(ctx, prefix, *after, func(i objstore.Info) error {
			*after = max(*after, i.Key)
			if id, err := manifest.ParseID(i.Key[len(r.prefix):]); err == nil { // or it is not ours
				if id.Epoch >= r.head.Epoch { // keys are in the order of epochs
					return errEnough
				}
				ids = append(ids, id)
			}
			if left--; left == 0 {
				more = true
				return errEnough
			}
			return nil
		}))
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, false, fmt.Errorf("list %s: %w", prefix, err)
	}
	return ids, more, nil
}
