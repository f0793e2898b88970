package group

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// StateStore is where the control plane keeps what must outlive it; core's state store is one. Keys begin with the
// prefix that the owner of this package gave them.
type StateStore interface {
	Get(ctx context.Context, key string) ([]byte, error) // nil and no error when there is none
	Put(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix string) ([]string, error)
}

// The keys. A group's record is its place in the compacted log: the group as it is since that epoch, or that it is
// gone. The head is written when a term is taken and when deletions are forgotten; the epoch is the highest of all.
const (
	keyHead   = "head"
	keyGroups = "group/"
	keyLease  = "lease"
)

// stateFormat is the version of both records (invariant X1).
const stateFormat = 1

type headRecord struct {
	Format int     `json:"format"`
	Taken  Version `json:"taken"` // the term, and the epoch it began with
	Floor  uint64  `json:"floor"`
	LastID uint32  `json:"last_id"`
}

type groupRecord struct {
	Format int    `json:"format"`
	Epoch  uint64 `json:"epoch"`
	Group  *Group `json:"group,omitempty"` // nil: deleted at Epoch
}

type leaseRecord struct {
	Format int           `json:"format"`
	Lease  time.Duration `json:"lease"` // nanoseconds
}

func groupKey(id uint32) string { return fmt.Sprintf("%s%08x", keyGroups, id) }

// load reads the store back.
func load(ctx context.Context, state StateStore) (*Store, error) {
	s := NewStore()
	head := headRecord{Format: stateFormat}
	if err := get(ctx, state, keyHead, &head, &head.Format); err != nil {
		return nil, err
	}
	s.version, s.floor, s.lastID = head.Taken, head.Floor, head.LastID
	keys, err := state.List(ctx, keyGroups)
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	for _, key := range keys {
		id, err := strconv.ParseUint(strings.TrimPrefix(key, keyGroups), 16, 32)
		if err != nil {
			return nil, fmt.Errorf("state has a key %q that is no group's", key)
		}
		r := groupRecord{Format: stateFormat}
		if err := get(ctx, state, key, &r, &r.Format); err != nil {
			return nil, err
		}
		s.version.Epoch = max(s.version.Epoch, r.Epoch)
		s.lastID = max(s.lastID, uint32(id))
		if r.Group != nil {
			r.Group.Changed = r.Epoch
			s.groups[uint32(id)] = r.Group
		} else if r.Epoch > s.floor {
			s.gone = append(s.gone, Gone{ID: uint32(id), Epoch: r.Epoch})
		}
	}
	slices.SortFunc(s.gone, func(a, b Gone) int {
		return Cursor{a.Epoch, a.ID}.compare(Cursor{b.Epoch, b.ID})
	})
	return s, nil
}

// keepLease remembers the lease that clients are about to be given and returns the longest that one may still have.
func keepLease(ctx context.Context, state StateStore, lease time.Duration) (time.Duration, error) {
	r := leaseRecord{Format: stateFormat}
	if err := get(ctx, state, keyLease, &r, &r.Format); err != nil {
		return 0, err
	}
	if r.Lease == lease {
		return lease, nil
	}
	longest := max(r.Lease, lease)
	return longest, put(ctx, state, keyLease, leaseRecord{Format: stateFormat, Lease: lease})
}

func get(ctx context.Context, state StateStore, key string, record any, version *int) error {
	b, err := state.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if b == nil {
		return nil
	}
	if err := json.Unmarshal(b, record); err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if *version != stateFormat {
		return fmt.Errorf("%s is of format %d, this release knows %d: start the release that wrote it", key, *version, stateFormat)
	}
	return nil
}

// save makes a change durable before it becomes true. Records of one change are written one by one: if a later one
// fails the change did not happen for this process, and the caller repeats it, which is idempotent.
func save(ctx context.Context, state StateStore, s *Store, c Change) error {
	if c.Version.Term != s.version.Term {
		return put(ctx, state, keyHead, headRecord{Format: stateFormat, Taken: c.Version, Floor: s.floor, LastID: s.lastID})
	}
	for _, g := range c.Groups {
		if err := put(ctx, state, groupKey(g.ID), groupRecord{Format: stateFormat, Epoch: c.Version.Epoch, Group: g}); err != nil {
			return err
		}
	}
	if c.Deleted == 0 {
		return nil
	}
	if len(s.gone) == maxGone {
		// One deletion is forgotten for the one that comes: who has not heard of it gets everything anew.
		old := s.gone[0]
		head := headRecord{Format: stateFormat, Taken: s.version, Floor: old.Epoch, LastID: s.lastID}
		if err := put(ctx, state, keyHead, head); err != nil {
			return err
		}
		if err := state.Delete(ctx, groupKey(old.ID)); err != nil {
			return fmt.Errorf("forget group %d: %w", old.ID, err)
		}
	}
	return put(ctx, state, groupKey(c.Deleted), groupRecord{Format: stateFormat, Epoch: c.Version.Epoch})
}

func put(ctx context.Context, state StateStore, key string, record any) error {
	b, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	if err := state.Put(ctx, key, b); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}
