package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

var (
	// ErrFenced means that another gateway has taken the volume over. What was not uploaded
	// stays on the local disk; nothing more is served from it.
	ErrFenced = errors.New("fenced: another gateway has taken the volume over")
	// ErrDiverged means that the store and the local disk do not belong to one history, for
	// example because one of them was restored from an old copy.
	ErrDiverged = errors.New("store and local disk do not belong together")
	// ErrSize means that the volume in the store has another size.
	ErrSize = errors.New("size differs from that of the volume in the store")
	// ErrKey means that the volume is encrypted with another key, or is not, or there is none to open it.
	ErrKey = manifest.ErrKey
)

// Local is what the local disk knows about the store.
type Local struct {
	// Attached is false for a blank disk, which takes over whatever there is.
	Attached  bool
	Epoch     uint64 // of the last takeover known here
	Confirmed uint64 // sequence number of the last commit known here
	Durable   uint64 // highest sequence number in the local log
}

// decide says whether a disk with the given owner id may take over head, nil for none.
// It is the whole of S9's rule and does no I/O.
func decide(l Local, owner string, size int64, head *manifest.Head) error {
	switch {
	case head == nil && l.Attached:
		return fmt.Errorf("the store has no head, the disk knows one of epoch %d: %w", l.Epoch, ErrDiverged)
	case head == nil:
		return nil
	case head.Size > size || head.Size < size && !l.Attached: // a disk that was there may have grown meanwhile
		return fmt.Errorf("%w, which is %s: configure size: %[2]s, not %s", ErrSize, strict.Size(head.Size), strict.Size(size))
	case !l.Attached:
		return nil
	case head.Owner != owner && head.Epoch > l.Epoch:
		return fmt.Errorf("epoch %d by disk %s, ours was %d: %w", head.Epoch, head.Owner, l.Epoch, ErrFenced)
	case head.Owner != owner || head.Epoch < l.Epoch:
		return fmt.Errorf("head is of epoch %d by disk %s, ours was %d: %w", head.Epoch, head.Owner, l.Epoch, ErrDiverged)
	case head.Seq > l.Durable:
		return fmt.Errorf("the store is at %d, the disk only at %d: %w", head.Seq, l.Durable, ErrDiverged)
	case head.Seq < l.Confirmed:
		return fmt.Errorf("the store is at %d, it was at %d before: %w", head.Seq, l.Confirmed, ErrDiverged)
	}
	return nil
}

// Takeover makes this session the volume's only writer. It returns the head it took over, whose Epoch
// is now ours. It tries once: errors that wrap objstore.ErrUnavailable or objstore.ErrRefused may be tried again.
func (r *Remote) Takeover(ctx context.Context, l Local) (manifest.Head, error) {
	var head manifest.Head
	var sealer *manifest.Sealer
	err := r.breaker.try(ctx, func(ctx context.Context) error {
		old, etag, err := r.loadHead(ctx)
		if err != nil && !errors.Is(err, objstore.ErrNotFound) {
			return err
		}
		if old != nil && old.Session == r.session {
			// An earlier try of ours came through though its answer did not.
			head, r.etag = *old, etag
			sealer, err = r.unlock(&head)
			return err
		}
		if err := decide(l, r.o.Owner, r.o.Size, old); err != nil {
			return err
		}
		if old == nil {
			var id manifest.Tag
			_, _ = rand.Read(id[:]) // never fails since Go 1.24
			old = manifest.NewHead(r.o.Volume, id, r.o.Size)
			old.Account = r.o.Account
		}
		if old.Account != r.o.Account {
			return fmt.Errorf("the volume belongs to account %d, this gateway to %d: %w", old.Account, r.o.Account, ErrDiverged)
		}
		next := *old
		next.Epoch = max(next.Epoch, l.Epoch) + 1
		next.Owner, next.Session, next.Size = r.o.Owner, r.session, r.o.Size
		if sealer, err = r.unlock(&next); err != nil {
			return err
		}
		head = next
		return r.putHead(ctx, &next, etag)
	})
	if err != nil {
		if errors.Is(err, objstore.ErrPrecondition) || errors.Is(err, objstore.ErrExists) {
			// Somebody else took over in this very moment; the next try sees who.
			err = fmt.Errorf("%w: %w", objstore.ErrUnavailable, err)
		}
		return manifest.Head{}, fmt.Errorf("take over volume %s: %w", r.o.Volume, err)
	}
	r.mu.Lock()
	r.head, r.next, r.sealer = head, head.Next, sealer
	r.mu.Unlock()
	return head, nil
}

// unlock makes the sealer of the volume that head is of, which it marks as sealed when it is new.
func (r *Remote) unlock(head *manifest.Head) (*manifest.Sealer, error) {
	if r.o.Secret == nil {
		if head.Key != "" {
			return nil, fmt.Errorf("the volume is encrypted with key %s and none is configured: %w", head.Key, ErrKey)
		}
		return nil, nil
	}
	s, err := manifest.NewSealer(r.o.Secret, head.Tag())
	if err != nil {
		return nil, err
	}
	blank := head.Key == "" && head.Next == 0 && head.Root == "" && len(head.Deltas) == 0
	switch {
	case blank:
		head.Key, head.Features = s.KeyID(), head.Features|manifest.FeatureSealed
	case head.Key == "":
		return nil, fmt.Errorf("the volume is not encrypted and a key is configured: %w", ErrKey)
	case head.Key != s.KeyID():
		return nil, fmt.Errorf("the volume is encrypted with key %s, configured is %s: %w", head.Key, s.KeyID(), ErrKey)
	}
	return s, nil
}

func (r *Remote) loadHead(ctx context.Context) (*manifest.Head, string, error) {
	p, etag, err := r.o.Store.Load(ctx, r.prefix+"head")
	if err != nil {
		return nil, "", err
	}
	h, err := manifest.DecodeHead(p)
	if err != nil {
		return nil, "", err
	}
	if h.Volume != r.o.Volume {
		return nil, "", fmt.Errorf("head is of volume %q: %w", h.Volume, ErrDiverged)
	}
	return h, etag, nil
}

// putHead replaces the head that has etag, or creates it when etag is empty.
func (r *Remote) putHead(ctx context.Context, h *manifest.Head, etag string) error {
	h.Time = r.o.Now().UTC().Format(time.RFC3339)
	p, err := h.Encode()
	if err != nil {
		return err
	}
	if etag == "" {
		etag, err = r.o.Store.PutIfAbsent(ctx, r.prefix+"head", p)
	} else {
		etag, err = r.o.Store.PutIfMatch(ctx, r.prefix+"head", p, etag)
	}
	if err == nil {
		r.etag = etag
	}
	return err
}
